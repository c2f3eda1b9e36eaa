"""Versions to publish, as contracts need them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlc_registry.records import Draft, File
from mlc_registry.semver.versions import Version

if TYPE_CHECKING:
    from mlc_registry.protocols import Store
    from mlc_registry.records import ModelVersion

__all__ = ["FILES", "make_draft", "publish"]

FILES = (File("model.bin", 3, "sha256:aa"), File("more/state.json", 4, "sha256:bb"))


def make_draft(text: str, *, model: str = "net", digest: str = "sha256:cc", **said: Any) -> Draft:
    """Return the version *text* of *model*, which says what *said* has beside its files."""
    about: dict[str, Any] = {"metadata": {}, "description": "", "created_by": "ann", **said}
    return Draft(
        model=model,
        version=Version.parse(text),
        digest=digest,
        files=FILES,
        directory=f"{model}/{text}",
        entry="model.bin",
        **about,
    )


def publish(store: Store, text: str, **options: Any) -> ModelVersion:
    """Publish what `make_draft` makes."""
    return store.publish(make_draft(text, **options))[0]
