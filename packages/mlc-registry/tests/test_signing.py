"""Signatures over published files, made by us and verified by others, and the other way round."""

import importlib.util
import json
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import pytest

from mlc_registry import (
    CorruptArtifactError,
    RemovedVersionError,
    SignatureError,
    Version,
    VersionNotFoundError,
)
from mlc_registry.signing import Trust

needs_library = pytest.mark.skipif(
    importlib.util.find_spec("model_signing") is None,
    reason="model-signing is not installed, which mlc-registry[signing] brings",
)


def write_certificates(folder):
    """Make an authority and somebody whom it vouches for; return their certificates, and the key of the second."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def sign(name, key, issuer, issuer_key, *, is_authority):
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
        )
        now = datetime.now(timezone.utc)
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True,
                    key_cert_sign=is_authority,
                    crl_sign=is_authority,
                    decipher_only=False,
                    **usage,
                ),
                critical=True,
            )
            .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
            .sign(issuer_key, hashes.SHA256())
        )
        path = folder / f"{name}.crt"
        path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        return path

    above, below = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    private = folder / "signer.pem"
    private.write_bytes(
        below.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    authority = sign("authority", above, "authority", above, is_authority=True)
    return authority, sign("signer", below, "authority", above, is_authority=False), private


@pytest.fixture
def folder(tmp_path):
    """A directory with names of all kinds to publish; some of them the library would leave out by itself."""
    path = tmp_path / "model"
    (path / ".github").mkdir(parents=True)
    (path / "a folder").mkdir()
    for name in ("weights.bin", ".gitattributes", ".github/run.yml", "a folder/ü: 1.json"):
        (path / name).write_text(name)
    return path


def run_library(*arguments):
    """Run the command of model-signing; return the exit status and what it said."""
    command = [sys.executable, "-m", "model_signing", *map(str, arguments)]
    process = subprocess.run(command, check=False, capture_output=True, text=True)
    return process.returncode, process.stdout + process.stderr


def tamper(registry, name, version, path, content):
    """Change a published file behind the registry's back."""
    place = registry.resolve(name, version).path
    target = place / path if place.is_dir() else place
    target.chmod(0o644)
    target.write_text(content)


@needs_library
class TestSigning:
    """With the library."""

    @pytest.mark.parametrize("curve", ["SECP256R1", "SECP384R1", "SECP521R1"])
    def test_a_signed_version_is_verified(self, registry, folder, make_key, curve):
        """By whoever has the public key, and by no other key."""
        private, public = make_key(curve=curve)
        _, other = make_key("other", curve=curve)
        registry.register_model("net", "1.0.0", folder)
        made = registry.signing.sign("net", "latest", key=private, actor="ann", reason="released")

        assert made == registry.signing.verify("net", "1.0.0", public_key=public)
        last = registry.history("net")[-1]
        assert ("ann", "released", "signed") == (last.actor, last.reason, last.kind)
        with pytest.raises(SignatureError, match=r"no signature of net 1\.0\.0 is good:\n  of ann, .* [Kk]ey"):
            registry.signing.verify("net", "1.0.0", public_key=other)
        registry.audit.verify()

    def test_a_single_file_is_signed(self, registry, publish, make_key):
        """Within the directory that it is published in."""
        private, public = make_key()
        publish("1.0.0")
        registry.signing.sign("net", "1.0.0", key=private)

        assert registry.signing.verify("net", public_key=public).bundle

    def test_any_of_several_signatures_will_do(self, registry, publish, make_key):
        """The first by whom one trusts is the answer."""
        keys = [make_key(name) for name in ("ann", "bob")]
        publish("1.0.0")
        for name, (private, _) in zip(("ann", "bob"), keys, strict=True):
            registry.signing.sign("net", "1.0.0", key=private, actor=name)

        assert ["ann", "bob"] == [one.actor for one in registry.signing.list("net")]
        for name, (_, public) in zip(("ann", "bob"), keys, strict=True):
            assert name == registry.signing.verify("net", public_key=public).actor

    def test_changed_files_are_not_verified(self, registry, folder, make_key):
        """Nor signed."""
        private, public = make_key()
        registry.register_model("net", "1.0.0", folder)
        registry.signing.sign("net", "1.0.0", key=private)
        tamper(registry, "net", "1.0.0", ".gitattributes", "other text")

        with pytest.raises(SignatureError, match=r"\.gitattributes"):
            registry.signing.verify("net", public_key=public)
        with pytest.raises(CorruptArtifactError, match=r"\.gitattributes has"):
            registry.signing.sign("net", "1.0.0", key=private)
        assert 1 == len(registry.signing.list("net"))

    def test_an_added_file_is_found(self, registry, folder, make_key):
        """Even one that the library leaves out unless it is told not to."""
        private, public = make_key()
        registry.register_model("net", "1.0.0", folder)
        registry.signing.sign("net", "1.0.0", key=private)
        (registry.resolve("net").path / ".gitignore").write_text("")

        with pytest.raises(SignatureError, match="gitignore"):
            registry.signing.verify("net", public_key=public)

    def test_a_signature_of_another_version_is_worth_nothing(self, registry, publish, make_key):
        """Even if its words were moved to this one."""
        private, public = make_key()
        publish("1.0.0", "2.0.0")
        bundle = registry.signing.sign("net", "1.0.0", key=private).bundle
        registry._backend.store.statements.state(
            "net", Version.parse("2.0.0"), kind="signed", details=bundle, actor="eve"
        )

        with pytest.raises(SignatureError, match="over other files than were published"):
            registry.signing.verify("net", "2.0.0", public_key=public)

    @pytest.mark.parametrize("damage", ["", "{}", "[]", "null", '{"dsseEnvelope": {"payload": 7}}', "\u2713"])
    def test_what_is_no_signature_is_passed_over(self, registry, publish, make_key, damage):
        """And named if there is no other."""
        private, public = make_key()
        publish("1.0.0")
        state = registry._backend.store.statements.state
        state("net", Version.parse("1.0.0"), kind="signed", details=damage, actor="eve")
        with pytest.raises(SignatureError, match=r"of eve, .* it cannot be read"):
            registry.signing.verify("net", public_key=public)
        registry.signing.sign("net", "1.0.0", key=private, actor="ann")

        assert "ann" == registry.signing.verify("net", public_key=public).actor

    def test_an_altered_signature_is_refused(self, registry, publish, make_key):
        """The right files, the wrong signature."""
        private, public = make_key()
        publish("1.0.0")
        bundle = json.loads(registry.signing.sign("net", "1.0.0", key=private).bundle)
        _, other = make_key("other")
        forged = json.loads(json.dumps(bundle))
        signature = forged["dsseEnvelope"]["signatures"][0]["sig"]
        forged["dsseEnvelope"]["signatures"][0]["sig"] = f"{signature[:20]}AAAA{signature[24:]}"
        signatures = [attrs_signature(json.dumps(forged))]
        from mlc_registry.signing import verify_signatures

        found, files = registry.get("net", "1.0.0"), registry.list_files("net", "1.0.0")
        place = registry.resolve("net").path.parent
        with pytest.raises(SignatureError, match="no signature"):
            verify_signatures(found, files, signatures, place, Trust(public_key=public))
        with pytest.raises(SignatureError, match="no signature"):
            verify_signatures(found, files, registry.signing.list("net"), place, Trust(public_key=other))

    def test_a_key_with_a_password(self, registry, publish, make_key):
        """It has to be right."""
        private, public = make_key(password=b"secret")
        publish("1.0.0")
        for wrong in (None, "guess"):
            with pytest.raises(SignatureError, match=r"net 1\.0\.0 was not signed"):
                registry.signing.sign("net", "1.0.0", key=private, password=wrong)
        registry.signing.sign("net", "1.0.0", key=private, password="secret")

        assert registry.signing.verify("net", public_key=public)

    def test_a_certificate(self, registry, publish, tmp_path):
        """Whoever trusts the authority trusts the signature; another authority is not enough."""
        for name in ("ours", "others"):
            (tmp_path / name).mkdir()
        authority, certificate, private = write_certificates(tmp_path / "ours")
        other, _, _ = write_certificates(tmp_path / "others")
        publish("1.0.0")
        registry.signing.sign("net", "1.0.0", key=private, certificate=certificate, chain=[authority])

        assert registry.signing.verify("net", certificates=[authority])
        with pytest.raises(SignatureError, match="no signature of net"):
            registry.signing.verify("net", certificates=[other])

    def test_what_cannot_sign_is_refused(self, registry, publish, make_key, tmp_path):
        """Before anything is kept."""
        publish("1.0.0")
        private, public = make_key(curve="SECP256K1")
        (tmp_path / "no.pem").write_text("no key")
        for key in (private, tmp_path / "no.pem", tmp_path / "missing.pem", public):
            with pytest.raises(SignatureError, match="was not signed"):
                registry.signing.sign("net", "1.0.0", key=key)
        with pytest.raises(SignatureError, match="say what to sign with"):
            registry.signing.sign("net", "1.0.0")
        registry.signing.sign("net", "1.0.0", key=make_key()[0])
        with pytest.raises(SignatureError, match="nothing was verified"):
            registry.signing.verify("net", public_key=tmp_path / "missing.pub")
        assert 1 == len(registry.signing.list("net"))

    def test_a_version_without_a_signature_says_so(self, registry, publish, make_key):
        """And a version that is not there, or no longer."""
        private, public = make_key()
        publish("1.0.0", "2.0.0")
        with pytest.raises(SignatureError, match=r"net 2\.0\.0 is not signed; sign it with"):
            registry.signing.verify("net", public_key=public)
        with pytest.raises(VersionNotFoundError):
            registry.signing.sign("net", "3.0.0", key=private)
        registry._backend.store.statements.remove("net", Version.parse("1.0.0"), actor="ann", reason="old")
        with pytest.raises(RemovedVersionError, match="old"):
            registry.signing.sign("net", "1.0.0", key=private)

    def test_the_library_verifies_what_we_signed(self, registry, folder, make_key, mlc, root, tmp_path):
        """With its own command and nothing of ours, on the directory as it was published."""
        private, public = make_key()
        mlc("registry", "register", "net", "1.0.0", folder, "--registry", root)
        assert 0 == mlc("registry", "sign", "net@1.0.0", "--key", private, "--registry", root)[0]
        status, bundle, _ = mlc("registry", "signature", "net@1.0.0", "--registry", root)
        signature = tmp_path / "model.sig"
        signature.write_text(bundle)
        verify = ("verify", "key", "--signature", signature, "--public_key", public)
        place = registry.resolve("net").path

        assert 0 == status
        told = run_library(*verify, "--no-ignore-git-paths", place)
        assert 0 == told[0], told
        copy = tmp_path / "copy"
        subprocess.run(["cp", "-r", place, copy], check=True)
        assert 0 == run_library(*verify, "--no-ignore-git-paths", copy)[0]
        (copy / "weights.bin").chmod(0o644)
        (copy / "weights.bin").write_text("other")
        assert 0 != run_library(*verify, "--no-ignore-git-paths", copy)[0]

    def test_we_verify_what_the_library_signed(self, registry, publish, make_key, tmp_path):
        """Once it is kept."""
        private, public = make_key()
        publish("1.0.0")
        place, target = registry.resolve("net").path.parent, tmp_path / "model.sig"
        sign = ("sign", "key", "--signature", target, "--private_key", private)
        status, said = run_library(*sign, "--no-ignore-git-paths", place)
        assert 0 == status, said
        registry._backend.store.statements.state(
            "net", Version.parse("1.0.0"), kind="signed", details=target.read_text(), actor="ann"
        )

        assert "ann" == registry.signing.verify("net", public_key=public).actor

    def test_commands(self, registry, publish, make_key, mlc, root):
        """Sign, list, print and verify."""
        private, public = make_key()
        _, other = make_key("other")
        publish("1.0.0")
        where = ("--registry", root)
        verify = ("registry", "verify", "net", "--public-key")
        assert (1, "") == mlc(*verify, public, *where)[:2]
        assert 1 == mlc("registry", "signature", "net", *where)[0]
        sign = ("registry", "sign", "net", "--key", private, *where)
        assert "net 1.0.0 is signed by ann\n" == mlc(*sign, "--actor", "ann")[1]
        assert "signed, as ann kept it" in mlc(*verify, public, *where)[1]
        assert "ann" == json.loads(mlc(*verify, public, *where, "--json")[1])["signed_by"]
        status, _, complaint = mlc(*verify, other, *where)
        assert 1 == status
        assert "no signature of net 1.0.0 is good" in complaint
        show = ("registry", "signature", "net", *where)
        assert mlc(*show, "--list")[1].startswith("1  ")
        assert ["ann"] == [one["actor"] for one in json.loads(mlc(*show, "--list", "--json")[1])]
        assert "has 1 signatures, not 2" in mlc(*show, "--number", 2)[2]
        signed = json.loads(mlc(*sign, "--json")[1])
        assert signed["bundle"] == mlc(*show)[1].strip()


def attrs_signature(bundle):
    """Return a signature that nobody kept."""
    from mlc_registry import Signature

    return Signature(bundle=bundle, actor="eve", at=datetime.now(timezone.utc))


def test_whom_to_trust_has_to_be_said():
    """One of the three."""
    for options in ({}, {"public_key": "a", "certificates": ["b"]}):
        with pytest.raises(SignatureError, match="say whose signature counts"):
            Trust(**options)


def test_without_the_library(root, publish, run_python):
    """There is one kind of error, and it says what to install; nothing else needs the library."""
    publish("1.0.0")
    code = """
        import sys
        sys.modules["model_signing"] = None  # as if it were not installed
        from mlc_registry import ModelRegistry, SignatureError
        with ModelRegistry(sys.argv[1]) as registry:
            print(len(registry.signing.list("net")))
            try:
                registry.signing.sign("net", "1.0.0", key="key.pem")
            except SignatureError as error:
                print(error)
    """
    printed = run_python(code, root)

    assert printed.startswith("0\n")
    assert 'pip install "mlc-registry[signing]"' in printed
