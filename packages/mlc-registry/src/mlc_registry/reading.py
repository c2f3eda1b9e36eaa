"""The half of a registry that changes nothing: every question that can be asked of it."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any

from mlc_registry import misses
from mlc_registry.construction.classes import construct, find_class
from mlc_registry.construction.weights import load_weights
from mlc_registry.errors import MissingMetricWarning, StoreError, YankedVersionWarning
from mlc_registry.names import check_asked, check_stage
from mlc_registry.records import Query
from mlc_registry.requirements import require_size
from mlc_registry.search import check_limit, make_query
from mlc_registry.semver.references import Reference, read_reference
from mlc_registry.semver.versions import Version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mlc_registry.backend import Backend
    from mlc_registry.protocols import Searches
    from mlc_registry.records import Change, File, Model, ModelVersion, Page, Resolved, Stage

__all__ = ["RegistryReader"]


class RegistryReader:
    """Finds published versions of models; every method asks the database."""

    _backend: Backend

    def resolve(self, name: str, reference: str | Version = "latest", *, include_prereleases: bool = False) -> Resolved:
        """Return the version that *reference* means now, with its digest and its place.

        Args:
            name: The model.
            reference: An exact version (`1.2.3`), a range by npm's grammar (`^1.2`, `~1.2.3`, `1.x`, `>=1 <2 || 3.x`),
                `latest` (the highest release), `newest` (what was published last), a stage (`@production`, or
                `production`, since no stage can be named as a range is) or a digest (`sha256:` and 64 digits).
            include_prereleases: Let ranges and `latest` find pre-releases too.

        Raises:
            InvalidReferenceError: If *reference* is none of these.
            ModelNotFoundError, VersionNotFoundError, StageNotFoundError: If it leads nowhere; says what there is.
            RemovedVersionError: If its files were removed for good; says why. `get` still knows it.

        Warns:
            YankedVersionWarning: If the version was asked for exactly or by stage, and has been yanked.
        """
        return self._resolve(name, reference, include_prereleases=include_prereleases)

    def get_model_path(
        self, name: str, reference: str | Version = "latest", *, include_prereleases: bool = False, verify: bool = False
    ) -> Path:
        """Return the published file or directory that *reference* means; read it, never write to it.

        Where the artifacts are behind a URL it is brought into the cache of this machine, once.

        Args:
            name: The model.
            reference: As for `resolve`.
            include_prereleases: As for `resolve`.
            verify: Hash the files first, even if they were brought before.

        Raises:
            CorruptArtifactError: If it is missing, or, with *verify*, not what was published; and as `resolve`.
            StoreError: If it cannot be brought.
        """
        found, _ = self._find(name, reference, include_prereleases=include_prereleases)
        return self._backend.fetch(found, verify=verify)

    def load(
        self,
        name: str,
        reference: str | Version = "latest",
        *,
        model_cls: type | str | None = None,
        allow: Sequence[str] = (),
        strict: bool = True,
        verify: bool = True,
        device: str = "cpu",
        include_prereleases: bool = False,
    ) -> Any:
        """Return the model that *reference* means: its class, constructed as it was registered, with its weights.

        A torch module is returned in evaluation mode, as published models are loaded to be used; `.train()` it to train
        on. Weights are read from safetensors only, with what `mlc-registry[torch]` brings.

        Args:
            name: The model.
            reference: As for `resolve`.
            model_cls: The class, or its name, that the version must be of. No other is imported then.
            allow: Packages, modules or classes that may be imported because the registry says so, as `medical` or
                `medical.networks:UNet`; beside those in the environment, `MLC_ALLOWED_CLASSES`.
            strict: Refuse weights that are missing, unknown, of another shape, or that the model cannot hold exactly.
            verify: Hash the files first.
            device: Where a torch module shall be.
            include_prereleases: As for `resolve`.

        Raises:
            ConstructionError: If the class is not allowed, fails or has no place for the weights; says the way out.
            CorruptArtifactError: If the files are not what was published; and as `resolve`.

        Warns:
            PartialWeightsWarning: If weights do not fit, and *strict* is false.
        """
        found = self._resolve(name, reference, include_prereleases=include_prereleases)
        published = self._backend.get(name, found.version)
        kind = find_class(published, model_cls=model_cls, allow=allow)
        path = self._backend.fetch(published, verify=verify)
        model = construct(kind, published)
        return load_weights(model, path, strict=strict, device=str(device), what=f"{name} {published.version}")

    def verify(self, name: str, reference: str | Version = "latest", *, include_prereleases: bool = False) -> Resolved:
        """Hash all files of a version where they are kept, and return what was checked.

        Raises:
            CorruptArtifactError: If a file is missing, changed or was never published; names each.
        """
        found = self._resolve(name, reference, include_prereleases=include_prereleases)
        self._backend.verify(self._backend.get(name, found.version))
        return found

    def get(self, name: str, version: str | Version) -> ModelVersion:
        """Return everything that is known about one version, yanked or not.

        Raises:
            ModelNotFoundError, VersionNotFoundError: If it is not there.
        """
        return self._backend.get(name, version)

    def list_models(self, *, limit: int | None = None, after: str | None = None) -> Sequence[Model]:
        """Return the models by name, in the order of its characters: at most *limit*, those behind the name *after*.

        Raises:
            InvalidQueryError: If *limit* is no count.
            InvalidNameError: If *after* is no text.
        """
        if limit is not None:
            require_size(limit, "limit", way="leave it out to have all")
        return self._backend.store.list_models(limit=limit, after="" if after is None else check_asked(after))

    def list_versions(
        self, name: str, *, limit: int | None = None, below: str | Version | None = None
    ) -> Sequence[ModelVersion]:
        """Return the versions of a model, yanked ones too, the highest first: at most *limit*, lower than *below*.

        Raises:
            ModelNotFoundError: If there is no such model.
            InvalidQueryError: If *limit* is no count.
        """
        check_asked(name)
        if limit is not None:
            require_size(limit, "limit", way="leave it out to have all")
        under = None if below is None else Version.read(below)
        found = self._backend.store.list_versions(name, limit=limit, below=under)
        return found or self._backend.explain_nothing(name)

    def search(
        self,
        *words: str,
        model: str | None = None,
        tags: Mapping[str, str | None] | None = None,
        stage: str | None = None,
        metrics: Sequence[str] = (),
        dataset: str | None = None,
        run: str | None = None,
        commit: str | None = None,
        checkpoint: str | None = None,
        yanked: bool = False,
        limit: int = 50,
        after: str | None = None,
    ) -> Page:
        """Return versions of all models for which everything holds that is asked, the last published first.

        Args:
            *words: Words of the name, the description, the notes, the tags and the data set, whatever their case; of
                the last one a beginning will do.
            model: Of this model only.
            tags: The value of each tag, or None where any will do.
            stage: A stage that points to the version now.
            metrics: Comparisons, as in `dice>=0.9`, with what `metrics_of` returns of a version.
            dataset: The data set, by its whole text; so are *run*, *commit* and *checkpoint*.
            run: The training run.
            commit: The commit of the training code.
            checkpoint: The checkpoint that was published.
            yanked: Find yanked and removed versions, too.
            limit: How many at most, up to 1000.
            after: The `next` of the page before.

        Raises:
            InvalidQueryError, InvalidNameError, InvalidTagError: If that cannot be searched for; says what can.
            ModelNotFoundError: If there is no such *model*.
            StoreError: If the database answers no searches.

        Warns:
            MissingMetricWarning: If nothing is found, and no version has one of the *metrics* at all.
        """
        searches: Searches | None = getattr(self._backend.store, "searches", None)
        if searches is None:
            msg = f"{type(self._backend.store).__name__} answers no searches"
            raise StoreError(msg)
        marks = {"dataset": dataset, "run": run, "commit": commit, "checkpoint": checkpoint}
        query = make_query(words, model=model, tags=tags, stage=stage, metrics=metrics, yanked=yanked, **marks)
        found = searches.search(query, after=after, limit=check_limit(limit))
        if not found.versions and after is None:
            if model is not None:
                self._backend.explain_nothing(model)
            for name in dict.fromkeys(name for name, _, _ in query.metrics):
                every = Query(model=model, metrics=((name, ">=", -sys.float_info.max),), yanked=True)
                if not searches.search(every, limit=1).versions:
                    of = "" if model is None else f" of {model}"
                    msg = f"no version{of} has a metric {name!r}; metrics are what `tracking` states (--metric)"
                    warnings.warn(msg, MissingMetricWarning, stacklevel=2)
        return found

    def list_files(self, name: str, version: str | Version) -> Sequence[File]:
        """Return the files of a version by path, with their digests.

        Raises:
            ModelNotFoundError, VersionNotFoundError: If it is not there.
        """
        return self._backend.store.list_files(name, self.get(name, version).version)

    def stages(self, name: str) -> Sequence[Stage]:
        """Return the stages of a model by name.

        Raises:
            ModelNotFoundError: If there is no such model.
        """
        check_asked(name)
        return self._backend.store.list_stages(name) or self._backend.explain_nothing(name)

    def history(
        self, name: str, *, stage: str | None = None, limit: int | None = None, after: int | None = None
    ) -> Sequence[Change]:
        """Return what happened to a model, or to one of its stages, in that order.

        Args:
            name: The model.
            stage: Only what happened to this stage.
            limit: How many at most.
            after: Only what is behind the line of this number, as a page's last `Change` has it.

        Raises:
            ModelNotFoundError: If there is no such model.
            InvalidNameError, StageNotFoundError: If *stage* cannot name a stage, or nothing ever happened to one.
            InvalidQueryError: If *limit* or *after* is no count.
        """
        check_asked(name)
        if stage is not None:
            check_stage(stage)
        if limit is not None:
            require_size(limit, "limit", way="leave it out to have all")
        behind = 0 if after is None else require_size(after, "after", way="pass the number of a Change")
        found = self._backend.store.list_changes(name, stage=stage, limit=limit, after=behind)
        if found or limit == 0:
            return found
        if stage is not None and not self._backend.store.list_changes(name, stage=stage, limit=1):
            raise misses.explain_miss(self._backend.store, name, Reference(stage, "stage", stage=stage))
        return self._backend.explain_nothing(name)

    def _resolve(self, name: str, reference: str | Version, *, include_prereleases: bool) -> Resolved:
        return self._backend.resolve(*self._find(name, reference, include_prereleases=include_prereleases, depth=4))

    def _find(
        self, name: str, reference: str | Version, *, include_prereleases: bool, depth: int = 3
    ) -> tuple[ModelVersion, str]:
        wanted = read_reference(reference, include_prereleases=include_prereleases)
        found = self._backend.find(name, wanted)
        if found.removed:
            raise misses.removed_version(found)
        if found.yanked:
            msg = f"{name} {found.version} was yanked: {found.yank_reason or 'no reason was given'}"
            warnings.warn(msg, YankedVersionWarning, stacklevel=depth)  # the caller of the method that called this
        return found, wanted.text
