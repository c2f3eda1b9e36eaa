"""Print every line of the history that the registry sends."""

import hashlib
import hmac
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

SECRET = os.environ["MLC_OUTBOX_SECRET"].encode()


class Listener(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        expected = "sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest()
        is_ours = hmac.compare_digest(expected, self.headers.get("MLC-Signature", ""))
        if is_ours:
            line = json.loads(body)
            print(line["number"], line["kind"], line["model"], line["after"], flush=True)
        self.send_response(204 if is_ours else 403)
        self.end_headers()

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    HTTPServer(("127.0.0.1", int(sys.argv[1])), Listener).serve_forever()
