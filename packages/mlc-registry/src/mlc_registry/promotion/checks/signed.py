"""Somebody who is trusted must have signed the files."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from mlc_registry.errors import PolicyError, RegistryError, SignatureError

if TYPE_CHECKING:
    from mlc_registry.records import Promotion

__all__ = ["Signed"]

PEM = "-----BEGIN "


class Signed:
    """Hashes the files of the version, and looks for a signature over them.

    Args:
        public_key: The key of the signer: in PEM, which keeps it in the sealed history with the policy, or the path of
            a file that has it on every machine that promotes.

    Raises:
        PolicyError: If that cannot be either.
    """

    def __init__(self, *, public_key: str) -> None:
        given: object = public_key  # from a policy, which may hold anything
        if not isinstance(given, str) or not given.strip() or (PEM in given and "PUBLIC KEY" not in given):
            msg = f"signed: public_key={str(given)[:40]!r} is neither a public key in PEM nor the path of one"
            raise PolicyError(msg)
        self._public_key = public_key

    def object_to(self, promotion: Promotion) -> str:
        """Return why no signature is good."""
        spec = f"{promotion.version.model}@{promotion.version.version}"
        try:
            if PEM not in self._public_key:
                promotion.verify_signature(public_key=self._public_key)
                return ""
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "key.pub"
                path.write_text(self._public_key, encoding="utf-8")
                promotion.verify_signature(public_key=path)
        except SignatureError as error:
            return f"{error}\nWho has the key may sign it: mlc registry sign {spec} --key KEY"
        except RegistryError as error:
            return str(error)
        return ""
