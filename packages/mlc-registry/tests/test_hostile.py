"""What somebody passes who makes every mistake there is: refused with an error of ours, before anything is touched."""

import functools
from datetime import timedelta
from pathlib import Path

import pytest

from mlc_registry import (
    Architecture,
    EmptyDirectoryWarning,
    ModelRegistry,
    RegistryError,
    RepairedVersionWarning,
    RetentionRule,
    Tracking,
    Version,
    migrate,
    parse_reference,
    read_schema,
)
from mlc_registry.requirements import show
from mlc_registry.semver.ranges import Range


def _nest(depth=5000):
    return functools.reduce(lambda inner, _: {"x": inner}, range(depth), {})


DEEP = _nest()
HALF = "\ud800"
LONG = "x" * 10**6
NO_TEXTS = (None, 1, 1.10, b"a", ["a"], DEEP)
NO_WORDS = ("", " \t\n", "a\0b", HALF, 1, b"a", DEEP)
NO_SIZES = (-1, 2**64, "5", 1.5, True)
NO_PATHS = ("", "a\0b", HALF, LONG, "x" * 300, 1, b"a", ["a"], DEEP)
NO_REFERENCES = (None, 1, 1.10, b"1", ["1"], "", "a\0b", HALF, DEEP)


def _mistakes():
    """Return each mistake as a function of a registry and of a file to publish."""

    def each(values, call):
        return [functools.partial(lambda value, *given: call(*given, value), value) for value in values]

    return {
        # who, and why
        "register actor": each(NO_WORDS, lambda r, p, x: r.register_model("net", "2.0.0", p, actor=x)),
        "promote actor": each(NO_WORDS, lambda r, p, x: r.promote("net", "1.0.0", "a", actor=x)),
        "promote reason": each(NO_WORDS[1:], lambda r, p, x: r.promote("net", "1.0.0", "a", reason=x)),
        "force reason": each(NO_WORDS, lambda r, p, x: r.promote("net", "1.0.0", "a", reason=x, force=True)),
        "rollback actor": each(NO_WORDS, lambda r, p, x: r.rollback("net", "production", actor=x)),
        "demote actor": each(NO_WORDS, lambda r, p, x: r.demote("net", "production", actor=x)),
        "demote reason": each(NO_WORDS[1:], lambda r, p, x: r.demote("net", "production", reason=x)),
        "yank reason": each((None, *NO_WORDS), lambda r, p, x: r.yank("net", "1.0.0", x)),
        "unyank reason": each(NO_WORDS[1:], lambda r, p, x: r.unyank("net", "1.0.0", x)),
        "approver": each(NO_WORDS, lambda r, p, x: r.policy.approve("net", "1.0.0", "a", actor=x)),
        "approval reason": each(NO_WORDS[1:], lambda r, p, x: r.policy.approve("net", "1.0.0", "a", reason=x)),
        "notes actor": each(NO_WORDS, lambda r, p, x: r.releases.write_notes("net", "1.0.0", "Good.", actor=x)),
        "notes": each((None, *NO_WORDS), lambda r, p, x: r.releases.write_notes("net", "1.0.0", x)),
        "tag actor": each(NO_WORDS, lambda r, p, x: r.releases.tag("net", "1.0.0", a="b", actor=x)),
        # versions, ranges, references
        "resolve": each(NO_REFERENCES, lambda r, p, x: r.resolve("net", x)),
        "path of": each(NO_REFERENCES, lambda r, p, x: r.get_model_path("net", x)),
        "get": each(NO_REFERENCES, lambda r, p, x: r.get("net", x)),
        "register": each(NO_REFERENCES, lambda r, p, x: r.register_model("net", x, p)),
        "promote": each(NO_REFERENCES, lambda r, p, x: r.promote("net", x, "a")),
        "expected": each(NO_REFERENCES[1:], lambda r, p, x: r.promote("net", "1.0.0", "a", expected=x)),
        "below": each(NO_REFERENCES[1:], lambda r, p, x: r.list_versions("net", below=x)),
        "parent": each(NO_REFERENCES[1:], lambda r, p, x: r.register_model("net", "2.0.0", p, parent=x)),
        "dependency": each(NO_REFERENCES, lambda r, p, x: r.register_model("a", "2.0.0", p, dependencies={"net": x})),
        "compare": each(NO_REFERENCES, lambda r, p, x: r.releases.compare("net", "1.0.0", x)),
        "requirement": each(NO_REFERENCES, lambda r, p, x: r.dependencies.resolve({"net": x})),
        "tree": each(NO_REFERENCES, lambda r, p, x: r.dependencies.tree("net", x)),
        "version": each(NO_TEXTS, lambda r, p, x: Version.parse(x)),
        "loose version": each(NO_TEXTS, lambda r, p, x: Version.read(x)),
        "range": each(NO_TEXTS, lambda r, p, x: Range.parse(x)),
        "reference": each(NO_TEXTS, lambda r, p, x: parse_reference(x)),
        # names
        "name": each((*NO_TEXTS, "a\0b", HALF, LONG), lambda r, p, x: r.resolve(x)),
        "got name": each((*NO_TEXTS, "a\0b", HALF), lambda r, p, x: r.get(x, "1.0.0")),
        "new name": each((*NO_TEXTS, "a\0b", HALF, LONG, ""), lambda r, p, x: r.register_model(x, "1.0.0", p)),
        "listed name": each((*NO_TEXTS, "a\0b", HALF), lambda r, p, x: r.list_versions(x)),
        "name of history": each((*NO_TEXTS, "a\0b", HALF), lambda r, p, x: r.history(x)),
        "name of stages": each((*NO_TEXTS, "a\0b", HALF), lambda r, p, x: r.stages(x)),
        "yanked name": each((*NO_TEXTS, "a\0b", HALF), lambda r, p, x: r.yank(x, "1.0.0", "bad")),
        "stage": each((*NO_TEXTS, "a\0b", HALF, ""), lambda r, p, x: r.promote("net", "1.0.0", x)),
        "rolled back": each((*NO_TEXTS, "a\0b", HALF), lambda r, p, x: r.rollback("net", x)),
        "demoted": each((*NO_TEXTS, "a\0b", HALF), lambda r, p, x: r.demote("net", x)),
        "stage of history": each((*NO_TEXTS[1:], "a\0b", HALF), lambda r, p, x: r.history("net", stage=x)),
        "listener": each((*NO_TEXTS, "a\0b", HALF), lambda r, p, x: r.outbox.deliver(x, print)),
        "new listener": each((*NO_TEXTS, "a\0b"), lambda r, p, x: r.outbox.add(x, "https://a.example")),
        "address": each((*NO_TEXTS, "a\0b", HALF), lambda r, p, x: r.outbox.add("b", x)),
        "send": each((None, 1), lambda r, p, x: r.outbox.deliver("diary", x)),
        # what is said of a version
        "description": each((None, *NO_WORDS[2:]), lambda r, p, x: r.register_model("net", "2.0.0", p, description=x)),
        "first notes": each((None, *NO_WORDS[1:]), lambda r, p, x: r.register_model("net", "2.0.0", p, notes=x)),
        "tags": each((5, "a", {"a": 1}, {1: "a"}), lambda r, p, x: r.register_model("net", "2.0.0", p, tags=x)),
        "tag": each((5, "a", {"a": DEEP}), lambda r, p, x: r.releases.tag("net", "1.0.0", x)),
        "metadata": each((5, [1], DEEP), lambda r, p, x: r.register_model("net", "2.0.0", p, x)),
        "tracking": each((5, DEEP), lambda r, p, x: r.register_model("net", "2.0.0", p, tracking=x)),
        "epoch": each(
            (DEEP, "1", -1, 1.5), lambda r, p, x: r.register_model("net", "2.0.0", p, tracking=Tracking(epoch=x))
        ),
        "run": each(NO_TEXTS, lambda r, p, x: r.register_model("net", "2.0.0", p, tracking=Tracking(run=x))),
        "metric": each(
            (DEEP, "1"), lambda r, p, x: r.register_model("net", "2.0.0", p, tracking=Tracking(metrics={"a": x}))
        ),
        "architecture": each((5, DEEP), lambda r, p, x: r.register_model("net", "2.0.0", p, architecture=x)),
        "class": each(
            (5, DEEP, "os"),
            lambda r, p, x: r.register_model("net", "2.0.0", p, architecture=Architecture(model_class=x)),
        ),
        "dependencies": each((5, DEEP, ["net"]), lambda r, p, x: r.register_model("a", "2.0.0", p, dependencies=x)),
        "no class": each(("os:system", "os:nothing", 5), lambda r, p, x: r.register("c", "1.0.0", x, {})),
        "allowed": each((5, [1], DEEP), lambda r, p, x: r.load("net", allow=x)),
        # searches and pages
        "word": each(NO_TEXTS, lambda r, p, x: r.search(x)),
        "data set": each((*NO_TEXTS[1:], "a\0b", HALF), lambda r, p, x: r.search(dataset=x)),
        "tags to search": each((5, "a"), lambda r, p, x: r.search(tags=x)),
        "stage to search": each((*NO_TEXTS[1:], "a\0b"), lambda r, p, x: r.search(stage=x)),
        "metrics": each((5, [1], "dice", "dice!=1", "dice>=nan"), lambda r, p, x: r.search(metrics=x)),
        "page": each((*NO_TEXTS[1:], "a\0b", HALF, "1"), lambda r, p, x: r.search(after=x)),
        "size of page": each((*NO_SIZES, 0, 1001), lambda r, p, x: r.search(limit=x)),
        "versions": each(NO_SIZES, lambda r, p, x: r.list_versions("net", limit=x)),
        "models": each(NO_SIZES, lambda r, p, x: r.list_models(limit=x)),
        "behind a model": each(NO_TEXTS[1:], lambda r, p, x: r.list_models(after=x)),
        "changes": each(NO_SIZES, lambda r, p, x: r.history("net", limit=x)),
        "behind a change": each(NO_SIZES, lambda r, p, x: r.history("net", after=x)),
        # files
        "path": each((None, *NO_PATHS), lambda r, p, x: r.register_model("net", "2.0.0", x)),
        "schema": each((None, *NO_PATHS), lambda r, p, x: read_schema(x)),
        "suggest": each((None, *NO_PATHS), lambda r, p, x: r.releases.suggest("net", x)),
        "migrated": each((None, *NO_PATHS), lambda r, p, x: migrate(x, "net", "1.0.0", "2.0.0")),
        "scripts": each((5, *NO_PATHS), lambda r, p, x: migrate(p, "net", "1.0.0", "2.0.0", scripts=[x])),
        "export": each((None, *NO_PATHS), lambda r, p, x: r.archive.save(x)),
        "import": each((None, *NO_PATHS), lambda r, p, x: r.archive.restore(x)),
        "lock": each((None, *NO_PATHS), lambda r, p, x: r.dependencies.lock(["net"], x)),
        "checked lock": each((None, *NO_PATHS), lambda r, p, x: r.dependencies.check_lock(x)),
        "kept lock": each((None, *NO_PATHS), lambda r, p, x: r.retention.plan(RetentionRule(), locks=[x])),
        "root": each((None, *NO_PATHS), lambda r, p, x: ModelRegistry(x)),
        "artifacts": each(NO_PATHS, lambda r, p, x: ModelRegistry(p.parent / "new", artifacts=x)),
        "view": each(NO_PATHS, lambda r, p, x: ModelRegistry(p.parent / "new", view=x)),
        # house-keeping
        "rule": each((None, 5, DEEP), lambda r, p, x: r.retention.plan(x)),
        "releases": each((*NO_SIZES[2:], -1, DEEP), lambda r, p, x: RetentionRule(keep_releases=x)),
        "age": each((5, DEEP, timedelta(-1)), lambda r, p, x: RetentionRule(min_age=x)),
        "parents": each((5, DEEP), lambda r, p, x: RetentionRule(keep_parents=x)),
        "kept tag": each(NO_TEXTS, lambda r, p, x: RetentionRule(keep_tag=x)),
        "older than": each((5, "1", DEEP), lambda r, p, x: r.artifacts.sweep(older_than=x)),
        "policy": each((None, 5, DEEP), lambda r, p, x: r.policy.write(x)),
    }


MISTAKES = _mistakes()


@pytest.fixture
def kept(place, weights):
    """A registry on each database, with a version, a stage and a listener."""
    with place.open() as registry:
        registry.register_model("net", "1.0.0", weights())
        registry.promote("net", "1.0.0", "production")
        registry.outbox.add("diary", "https://unused.example")
        yield registry


def test_every_mistake_is_an_error_of_ours(kept, weights, tmp_path):
    """It is typed, its message can be printed, is short and repeats nothing at length, and nothing was changed."""
    path = weights("other", name="other.bin")
    head = kept.audit.head
    wrong = []
    for name, calls in MISTAKES.items():
        for number, call in enumerate(calls):
            try:
                call(kept, path)
            except RegistryError as error:
                said = str(error)
                said.encode()
                if not 10 < len(said) < 2000 or "\0" in said:
                    wrong.append(f"{name} {number}: {show(said)}")
            except Exception as error:  # whatever else it is
                wrong.append(f"{name} {number}: {type(error).__name__}: {show(str(error))}")
            else:
                wrong.append(f"{name} {number} is accepted")

    assert [] == wrong
    assert head == kept.audit.head
    assert not (path.parent / "new").exists()
    assert [path] == [one for one in path.parent.iterdir() if one.name.startswith("other")]


def test_path_that_is_no_text_can_be_said(kept, tmp_path):
    """Systems have names that are no UTF-8; a message that names one is printed all the same."""
    odd = str(tmp_path / "odd-\udc80")
    for call in (
        lambda: kept.register_model("net", "2.0.0", odd),
        lambda: read_schema(odd),
        lambda: migrate(odd, "net", "1.0.0", "2.0.0", scripts=[odd]),
        lambda: kept.dependencies.check_lock(odd),
        lambda: kept.archive.save(f"{odd}/x"),
        lambda: ModelRegistry(odd, create=False),
    ):
        with pytest.raises(RegistryError, match=r"odd-.*udc80") as caught:
            call()
        assert str(caught.value).encode()


def test_unknown_stage_has_no_history(kept):
    """It is an error, as it is for whoever rolls it back; behind the last line there is just nothing."""
    for ask in (lambda: kept.history("net", stage="nostage"), lambda: kept.rollback("net", "nostage")):
        with pytest.raises(LookupError, match="has no stage 'nostage'"):
            ask()
    last = kept.history("net", stage="production")[-1]
    assert () == tuple(kept.history("net", stage="production", after=last.number))


def test_blank_words_are_refused_in_the_shell(mlc, registry, publish, root):
    """A reason that is left out is none, and one that is given says something."""
    publish("1.0.0")
    for arguments in (
        ("promote", "net@1.0.0", "a", "--reason", ""),
        ("promote", "net@1.0.0", "a", "--actor", " "),
        ("yank", "net@1.0.0", "--reason", " "),
        ("approve", "net@1.0.0", "a", "--actor", ""),
    ):
        status, _, err = mlc("registry", *arguments, "--registry", root)
        assert 2 == status
        assert "says nothing" in err
    assert 0 == mlc("registry", "promote", "net@1.0.0", "a", "--registry", root)[0]


def test_names_that_terminals_obey_are_refused(registry, tmp_path):
    """Whoever lists the files would run what is in their names."""
    for name in ("a\nb", "a\x1b[2Jb", "a\x7fb", "a\x85b"):
        folder = tmp_path / f"made-{ord(name[1])}"
        folder.mkdir()
        (folder / name).write_text("x")
        with pytest.raises(RegistryError, match="control characters") as caught:
            registry.register_model("net", "1.0.0", folder)
        assert str(caught.value).isprintable()


def test_empty_directories_are_named(registry, tmp_path):
    """They are of no version, and nobody has to find that out later."""
    folder = tmp_path / "made"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "c").mkdir()
    (folder / "c" / "model.bin").write_text("x")

    with pytest.warns(EmptyDirectoryWarning, match="a/b"):
        registry.register_model("net", "1.0.0", folder)
    assert ["c/model.bin"] == [one.path for one in registry.list_files("net", "1.0.0")]


@pytest.mark.parametrize("behind_url", [False, True])
def test_publishing_again_puts_damage_right(registry, root, tmp_path, weights, cache, behind_url):
    """What is missing or changed is what was published again; what is whole is not touched; strangers are named."""
    if behind_url:
        pytest.importorskip("mlc_core", reason="mlc-core is not installed, which mlc-registry[storages] brings")
    folder = tmp_path / "made"
    for name in ("a.bin", "deep/b.bin", "deep/c.bin"):
        weights(name, name=name.rpartition("/")[2])
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    place = (tmp_path / "storage").as_uri() if behind_url else None
    with ModelRegistry(root, artifacts=place) as opened:
        opened.register_model("net", "1.0.0", folder)
        stored = tmp_path / "storage" if behind_url else root / "artifacts"
        (entry,) = [one.parent for one in stored.rglob("a.bin") if "made" not in str(one)]
        paths = [one for one in entry.rglob("*") if one.is_file() and (one.suffix == ".bin" or one.name[0] == "_")]
        whole = next(one for one in paths if one.name == "a.bin")
        for one in paths:
            if one != whole:
                one.chmod(0o600)
                one.write_text("damaged")
        before = whole.stat().st_ino
        head = opened.audit.head
        with pytest.raises(RegistryError, match="not what was published"):
            opened.verify("net", "1.0.0")

        with pytest.warns(RepairedVersionWarning, match=r"net 1\.0\.0 was not what was published"):
            opened.register_model("net", "1.0.0", folder)
        opened.verify("net", "1.0.0")
        assert head == opened.audit.head
        assert behind_url or before == whole.stat().st_ino
        opened.register_model("net", "1.0.0", folder)  # without a word


def test_damage_that_cannot_be_put_right_leads_nowhere_else(registry, root, weights, tmp_path):
    """A directory of a version that became a link is not followed out of the store."""
    folder = tmp_path / "made"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.bin").write_text("x")
    registry.register_model("net", "1.0.0", folder)
    elsewhere = tmp_path / "elsewhere"
    (root / "artifacts/net/1.0.0/deep").rename(elsewhere)
    (elsewhere / "a.bin").unlink()
    (root / "artifacts/net/1.0.0/deep").symlink_to(elsewhere)

    with pytest.raises(RegistryError, match="outside of the registry"):
        registry.register_model("net", "1.0.0", folder)
    assert [] == list(elsewhere.iterdir())


def test_export_is_replaced_if_that_is_said(registry, publish, root, mlc, tmp_path):
    """By a whole one, at once; what is no file stays."""
    publish("1.0.0")
    target = tmp_path / "registry.tar"
    registry.archive.save(target)
    publish("1.1.0")
    arguments = ("registry", "export", target, "--registry", root)

    assert 1 == mlc(*arguments)[0]
    assert 0 == mlc(*arguments, "--replace")[0]
    assert 2 == ModelRegistry(tmp_path / "other").archive.restore(target).versions
    whole = target.read_bytes()
    Path(registry.get_model_path("net")).chmod(0o600)
    Path(registry.get_model_path("net")).write_text("damaged")
    assert 1 == mlc(*arguments, "--replace")[0]
    assert whole == target.read_bytes()
    assert 1 == mlc("registry", "export", tmp_path, "--replace", "--registry", root)[0]


def test_what_is_no_export_is_said_once(registry, tmp_path):
    """One sentence."""
    (tmp_path / "h3.tar").write_bytes(b"")
    with pytest.raises(RegistryError) as caught:
        registry.archive.restore(tmp_path / "h3.tar")
    assert 1 == str(caught.value).count("is no export")
