"""Signatures over published files, in the format of OpenSSF Model Signing, kept in the sealed history."""

from __future__ import annotations

import json
import tempfile
from base64 import b64decode
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import attrs
import orjson

from mlc_registry.actors import check_reason, name_actor
from mlc_registry.backend import refuse_removed
from mlc_registry.errors import SignatureError
from mlc_registry.records import Signature
from mlc_registry.semver.references import read_reference

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence
    from types import ModuleType

    from mlc_registry.backend import Backend
    from mlc_registry.records import File, ModelVersion
    from mlc_registry.semver.versions import Version

    PathLike = str | os.PathLike[str]

__all__ = ["Signing", "SigstoreIdentity", "Trust", "verify_signatures"]

EXTRA = 'pip install "mlc-registry[signing]"'
NAME = "model.sig"


@attrs.frozen(kw_only=True)
class SigstoreIdentity:
    """Whose keyless signature is expected, or how to get one. Needs the network, to sign and to verify."""

    identity: str = ""
    """The address that must have signed; only verifying asks for it."""
    issuer: str = ""
    """The OpenID Connect issuer that vouches for it."""
    token: str = ""
    """An identity token to sign with; without one, a browser asks."""


@attrs.frozen(kw_only=True)
class Trust:
    """Whose signatures count: exactly one of the three is given."""

    public_key: PathLike | None = None
    """A file with an elliptic-curve key, in PEM."""
    certificates: Sequence[PathLike] = ()
    """Files with the certificates, in PEM, that signers' certificates must lead to."""
    sigstore: SigstoreIdentity | None = None
    """A keyless identity."""

    def __attrs_post_init__(self) -> None:
        given = [self.public_key is not None, bool(self.certificates), self.sigstore is not None]
        if sum(given) != 1:
            msg = "say whose signature counts: public_key=PATH (--public-key), certificates=[PATH], or sigstore=..."
            raise SignatureError(msg)


@attrs.frozen
class Signing:
    """Signs published files, and finds out whether they are signed by whom one trusts."""

    _backend: Backend

    def sign(
        self,
        name: str,
        reference: str | Version,
        *,
        key: PathLike | None = None,
        password: str | None = None,
        certificate: PathLike | None = None,
        chain: Sequence[PathLike] = (),
        sigstore: SigstoreIdentity | None = None,
        actor: str | None = None,
        reason: str = "",
    ) -> Signature:
        """Sign the files of the version that *reference* means now, hashed anew, and keep the signature.

        A version may have any number of signatures.

        Args:
            name: The model.
            reference: As for `ModelRegistry.resolve`.
            key: A file with a private elliptic-curve key (P-256, P-384 or P-521), in PEM.
            password: Of the key, if it is encrypted.
            certificate: A file with the certificate of the key; verifiers then need only whom it leads to.
            chain: Files with the certificates between that one and theirs.
            sigstore: Sign keylessly instead: as whoever proves to be this identity. Needs the network.
            actor: Who signs, for the history; the user of this process unless said otherwise.
            reason: What the signature says, for the history.

        Raises:
            SignatureError: If `mlc-registry[signing]` is not installed, or the key cannot sign.
            RemovedVersionError: If the files were removed.
            CorruptArtifactError: If they are not what was published; nothing is signed then. And as `resolve`.
        """
        check_reason(reason)
        who = name_actor(actor)
        signing = _load("signing")
        found = self._find(name, reference)
        config = signing.Config().set_hashing_config(_hashing())
        with _refusals(f"{found.model} {found.version} was not signed"):
            if sigstore is not None and key is None and certificate is None:
                config.use_sigstore_signer(identity_token=sigstore.token or None, oidc_issuer=sigstore.issuer or None)
            elif key is None or sigstore is not None:
                _refuse("say what to sign with: key=PATH (--key), or sigstore=...")
            elif certificate is not None:
                config.use_certificate_signer(
                    private_key=Path(key), signing_certificate=Path(certificate), certificate_chain=chain
                )
            else:
                secret = None if password is None else password.encode()  # the library passes it on as it is
                config.use_elliptic_key_signer(private_key=Path(key), password=secret)
        folder = self._fetch(found)
        with tempfile.TemporaryDirectory() as place, _refusals(f"{found.model} {found.version} was not signed"):
            target = Path(place) / NAME
            config.sign(folder, target)
            bundle = json.dumps(json.loads(target.read_bytes()), separators=(",", ":"))
        files = self._backend.store.list_files(found.model, found.version)
        fault = _compare(files, bundle)
        if fault:
            self._backend.verify(found)  # names what is not as it was published
            msg = f"{found.model} {found.version} was not signed: {fault}"
            raise SignatureError(msg)
        change = self._backend.statements.state(
            found.model, found.version, kind="signed", details=bundle, actor=who, reason=reason
        )
        self._backend.refresh()
        return Signature(bundle=bundle, actor=change.actor, at=change.at)

    def list(self, name: str, reference: str | Version = "latest") -> Sequence[Signature]:
        """Return all signatures of a version, in the order in which they were made; whether they hold is not asked.

        Raises:
            As `resolve` of a registry.
        """
        found = self._backend.find(name, read_reference(reference))
        stated = self._backend.statements.list_all(found.model, found.version, kinds=["signed"])
        return tuple(Signature(bundle=one.details, actor=one.actor, at=one.at) for one in stated)

    def verify(
        self,
        name: str,
        reference: str | Version = "latest",
        *,
        public_key: PathLike | None = None,
        certificates: Sequence[PathLike] = (),
        sigstore: SigstoreIdentity | None = None,
    ) -> Signature:
        """Hash the files of a version and return the first signature over exactly these by whom one trusts.

        Args:
            name: The model.
            reference: As for `ModelRegistry.resolve`.
            public_key: A file with the public key of the signer, in PEM.
            certificates: Files with the certificates, in PEM, that the signer's certificate must lead to.
            sigstore: The identity that must have signed keylessly. Needs the network.

        Raises:
            SignatureError: If there is no such signature; says of each why not. And if `mlc-registry[signing]` is not
                installed.
            RemovedVersionError: If the files were removed.
            CorruptArtifactError: If they are missing. And as `resolve`.
        """
        trust = Trust(public_key=public_key, certificates=certificates, sigstore=sigstore)
        found = self._find(name, reference)
        signatures = self.list(name, found.version)
        files = self._backend.store.list_files(found.model, found.version)
        return verify_signatures(found, files, signatures, self._fetch(found), trust)

    # ------------------------------------------------------------------ the inside

    def _find(self, name: str, reference: str | Version) -> ModelVersion:
        found = self._backend.find(name, read_reference(reference))
        refuse_removed(found)
        return found

    def _fetch(self, found: ModelVersion) -> Path:
        """Return the directory of *found*; the library is to hash what is in it."""
        place = self._backend.fetch(found)
        return place.parent if found.entry else place


def verify_signatures(
    found: ModelVersion, files: Sequence[File], signatures: Sequence[Signature], folder: Path, trust: Trust
) -> Signature:
    """Return the first of *signatures* that holds for exactly *files*, which are in *folder*, and that *trust* accepts.

    Raises:
        SignatureError: If there is none; says of each why not.
    """
    what = f"{found.model} {found.version}"
    if not signatures:
        msg = f"{what} is not signed; sign it with `mlc registry sign {found.model}@{found.version} --key KEY`"
        raise SignatureError(msg)
    verify = _verifier(trust)
    faults = []
    for one in signatures:
        try:
            fault = _compare(files, one.bundle)
            if not fault:
                with tempfile.TemporaryDirectory() as place, _refusals("it"):
                    target = Path(place) / NAME
                    target.write_text(one.bundle, encoding="utf-8")
                    verify(folder, target)
                return one
        except SignatureError as error:
            fault = str(error)
        faults.append(f"  of {one.actor}, {one.at:%Y-%m-%d %H:%M:%S} UTC: {fault}")
    msg = f"no signature of {what} is good:\n" + "\n".join(faults)
    raise SignatureError(msg)


def _verifier(trust: Trust) -> Callable[[Path, Path], None]:
    config = _load("verifying").Config().set_hashing_config(_hashing())
    with _refusals("nothing was verified"):
        if trust.sigstore is not None:
            config.use_sigstore_verifier(identity=trust.sigstore.identity, oidc_issuer=trust.sigstore.issuer)
        elif trust.certificates:
            config.use_certificate_verifier(certificate_chain=[Path(one) for one in trust.certificates])
        else:
            config.use_elliptic_key_verifier(public_key=Path(str(trust.public_key)))
    verify: Callable[[Path, Path], None] = config.verify
    return verify


def _compare(files: Sequence[File], bundle: str) -> str:
    """Return how what a *bundle* signs, be it signed or not, differs from *files*; nothing if it does not."""
    try:
        envelope = orjson.loads(bundle)["dsseEnvelope"]
        predicate = orjson.loads(b64decode(envelope["payload"]))["predicate"]
        signed = {one["name"]: f"{one['algorithm']}:{one['digest']}" for one in predicate["resources"]}
        ignored = predicate["serialization"].get("ignore_paths") or []
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"it cannot be read: {type(error).__name__}: {error}"
    if ignored:
        return f"it leaves out {', '.join(map(str, ignored))}"
    published = {one.path: one.digest for one in files}
    return "" if signed == published else "it is over other files than were published"


def _hashing() -> Any:
    """Return what makes signatures cover every file: by default the library leaves out those of git."""
    return _load("hashing").Config().set_ignored_paths(paths=[], ignore_git_paths=False)


def _load(name: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(f"model_signing.{name}")  # half a second, and few processes sign
    except ImportError as error:
        msg = f"signatures need a library that is not there ({error.name} is missing); {EXTRA}"
        raise SignatureError(msg) from error


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """Turn whatever the library raises into one kind of error: it has none of its own, and passes on others'."""
    try:
        yield
    except (SignatureError, MemoryError):
        raise
    except Exception as error:
        why = str(error) or type(error).__name__
        msg = f"{what}: {why}"
        raise SignatureError(msg) from error


def _refuse(why: str) -> NoReturn:
    raise SignatureError(why)
