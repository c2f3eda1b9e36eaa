"""The contributor's manual: every check and every chore of this repository is a session here.

python -m pip install "nox[uv]"
python -m nox -l              what there is
python -m nox -s tests        all tests, with coverage
python -m nox -s lint types   what a pull request must pass beside them
python -m nox -s demo         train, kill, resume, register and evaluate a real model
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv"
nox.options.sessions = ["lint", "types", "layers", "tests"]
nox.options.error_on_missing_interpreters = False

ROOT = Path(__file__).parent
PACKAGES = ("mlc-hooks", "mlc-core", "mlc-losses", "mlc-registry", "mlc-trainer")
SIBLINGS = {  # what `pip install` of one may bring of the others
    "mlc-hooks": (),
    "mlc-core": ("mlc-hooks",),
    "mlc-losses": ("mlc-hooks",),
    "mlc-registry": ("mlc-hooks",),
    "mlc-trainer": ("mlc-hooks", "mlc-core", "mlc-losses"),
}
WITHOUT_TORCH = ("mlc-hooks", "mlc-core", "mlc-registry")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
CURRENT = f"{sys.version_info.major}.{sys.version_info.minor}"
ALONE = [
    nox.param(
        python,
        package,
        id=f"{package}, Python {python}",
        tags=["ends"] if python in {PYTHONS[0], PYTHONS[-1]} or package not in WITHOUT_TORCH else [],
    )
    for package in PACKAGES
    for python in (PYTHONS if package in WITHOUT_TORCH else (CURRENT,))  # torch comes for one Python at a time
]
CONSTRAINTS = ROOT / "constraints.txt"
# uv takes a wheel of the same name and version out of its cache, even if the file is another by now.
ANEW = tuple(word for package in PACKAGES for word in ("--refresh-package", package))
GROUPS = nox.project.load_toml("pyproject.toml")["dependency-groups"]
EXAMPLE = "docs/examples/mlc-acme"
ORACLES = ("monai>=1.4", "safetensors>=0.5", "tensorboard>=2.14")  # libraries whose word tests hold ours against
NPM_SEMVER = "semver@7.8.6"  # npm's own words on versions and ranges
COVERAGE_FLOOR = 95

# Threads that wait for each other spin, and another number of them gives other bits: tests use one.
QUIET = {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


PARALLEL = ("-n", "auto")
BRIEFLY = ("-m", "not slow")  # the session `tests` runs them all, once


def share_pip_links() -> None:
    """Let uv look where pip was told to look for wheels: uv does not read pip's configuration."""
    if "UV_FIND_LINKS" not in os.environ:
        told = subprocess.run(
            [sys.executable, "-m", "pip", "config", "get", "global.find-links"],
            capture_output=True,
            text=True,
            check=False,
        )
        if told.returncode == 0 and told.stdout.strip():
            os.environ["UV_FIND_LINKS"] = told.stdout.strip()


share_pip_links()


def install(session: nox.Session, *what: str) -> None:
    """Install *what* under the constraints that development pins."""
    session.install("-c", str(CONSTRAINTS), *what)


def editable(*, extras: str = "[demo,yaml]") -> list[str]:
    """Return arguments that install every package for work on it, the trainer with *extras*."""
    wanted = {"mlc-trainer": extras, "mlc-registry": "[postgresql,signing]"}
    folders = [f"packages/{name}{wanted.get(name, '')}" for name in PACKAGES]
    return [word for folder in folders for word in ("-e", folder)]


@functools.cache
def build_wheels(folder: Path) -> list[str]:
    """Build all wheels into *folder*, once, and return the arguments that make an installer look there."""
    shutil.rmtree(folder, ignore_errors=True)
    build = [sys.executable, "-m", "uv", "build", "--quiet", "--wheel", "--out-dir", str(folder)]
    for name in PACKAGES:
        subprocess.run([*build, f"packages/{name}"], check=True, cwd=ROOT)
    elsewhere = os.environ.get("UV_FIND_LINKS", "").split()
    return [*ANEW, *(word for place in (str(folder), *elsewhere) for word in ("--find-links", place))]


@nox.session(python=CURRENT)
def tests(session: nox.Session) -> None:
    """Run all tests in one environment and hold branch coverage against the floor. Takes pytest's arguments."""
    run_tests(session, *session.posargs, floor=0 if session.posargs else COVERAGE_FLOOR)


@nox.session(python=CURRENT)
def thorough(session: nox.Session) -> None:
    """Run all tests with twenty times as many examples where properties are tested. Takes long."""
    run_tests(session, "--hypothesis-profile=thorough", *session.posargs, floor=0)


def run_tests(session: nox.Session, *arguments: str, floor: int) -> None:
    """Install everything, the example plugin too, and test with coverage by branch."""
    install(session, *editable(), "-e", EXAMPLE, *GROUPS["test"], *ORACLES)
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *PARALLEL, *arguments, env=QUIET)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report", "--fail-under", str(floor))


@nox.session
@nox.parametrize("python,package", ALONE)
def alone(session: nox.Session, package: str) -> None:
    """Install the wheel of one package into an empty environment, see which siblings came, run its tests there.

    `nox -t ends` leaves out the Pythons between the oldest and the newest.
    """
    folder = ROOT / "build" / "wheels"
    places = build_wheels(folder)
    wheel = next(folder.glob(f"{package.replace('-', '_')}-*.whl"))
    extras = {"mlc-losses": "[testing]", "mlc-trainer": "[plots,yaml]"}.get(package, "")
    install(session, *places, f"{wheel}{extras}", *GROUPS["test"])
    code = "from importlib.metadata import distributions as d; print(*sorted({one.name for one in d()}))"
    installed = str(session.run("python", "-c", code, silent=True)).split()
    came = [name for name in installed if name.startswith("mlc-")]
    expected = sorted((package, *SIBLINGS[package]))
    if came != expected:
        session.error(f"installing {package} brought {came} instead of {expected}")
    if package in WITHOUT_TORCH:
        session.run("python", "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is not None)")
    tests_folder = ROOT / "packages" / package / "tests"
    session.chdir(session.create_tmp())
    configuration = ("-c", str(ROOT / "pyproject.toml"), f"--rootdir={ROOT}")
    session.run("pytest", "-q", *PARALLEL, *BRIEFLY, *configuration, str(tests_folder), *session.posargs, env=QUIET)


@nox.session(python=CURRENT)
def minimums(session: nox.Session) -> None:
    """Run the tests of the packages that need no torch on the oldest versions that they declare."""
    folders = [f"packages/{name}" for name in WITHOUT_TORCH]
    session.install("--resolution", "lowest-direct", *ANEW, *folders, *GROUPS["test"])
    session.run("uv", "pip", "list", external=True)
    session.run("pytest", "-q", *PARALLEL, *BRIEFLY, *folders, *session.posargs, env=QUIET)


@nox.session(python=CURRENT)
def npm(session: nox.Session) -> None:
    """Ask npm and ourselves about hundreds of thousands of versions and ranges. Takes a minute, and npm and node."""
    install(session, "-e", "packages/mlc-hooks", "-e", "packages/mlc-registry", *GROUPS["test"])
    folder = Path(session.create_tmp())
    session.run("npm", "install", "--silent", "--prefix", str(folder), NPM_SEMVER, external=True)
    program = "packages/mlc-registry/tests/npm_differential.py"
    session.run("python", program, "--semver", str(folder / "node_modules" / "semver"), *session.posargs)


@nox.session(python=CURRENT)
def lint(session: nox.Session) -> None:
    """Check style and format. `nox -s lint -- --fix` mends what can be mended."""
    install(session, "ruff")
    fix = "--fix" in session.posargs
    session.run("ruff", "format", *([] if fix else ["--check"]), ".")
    session.run("ruff", "check", *session.posargs, ".")


@nox.session(python=CURRENT)
def types(session: nox.Session) -> None:
    """Check types, strictly."""
    install(session, *editable(), *GROUPS["types"], *GROUPS["test"])
    session.run("mypy", *[f"packages/{name}/src" for name in PACKAGES])


@nox.session(python=CURRENT)
def layers(session: nox.Session) -> None:
    """Check that packages only look down, and that no module is over 400 lines."""
    install(session, *editable(), "import-linter")
    session.run("lint-imports")
    long = {
        str(path.relative_to(ROOT)): lines
        for path in ROOT.glob("packages/*/src/**/*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    if long:
        session.error(f"modules over 400 lines: {long}")


@nox.session(python=CURRENT)
def docs(session: nox.Session) -> None:
    """Build the documentation; every warning is an error."""
    install(session, *editable(), *GROUPS["docs"], *GROUPS["test"])
    shutil.rmtree(ROOT / "docs" / "_build", ignore_errors=True)
    session.run("sphinx-build", "-W", "-n", "--keep-going", "-b", "html", "docs", "docs/_build/html", env=QUIET)


@nox.session(python=CURRENT)
def bench(session: nox.Session) -> None:
    """Measure ours beside the peers, interleaved, and write the tables into the documentation. Takes half an hour.

    `nox -s bench -- losses --rounds 5` runs one of the three programs with its arguments.
    """
    install(session, *editable(), *GROUPS["bench"])
    known = ["checkpoints", "losses", "training"]
    programs = [one for one in session.posargs[:1] if one in known]
    for program in programs or known:
        session.run("python", f"benchmarks/{program}.py", *session.posargs[len(programs) :], env=QUIET)


@nox.session(python=CURRENT)
def bench_registry(session: nox.Session) -> None:
    """Measure the registry beside MLflow's and write the tables into the documentation. Takes ten minutes."""
    session.install("-e", "packages/mlc-hooks", "-e", "packages/mlc-registry", *GROUPS["bench-registry"])
    session.run("python", "benchmarks/registry.py", *session.posargs)


@nox.session(python=CURRENT)
def demo(session: nox.Session) -> None:
    """Train, kill, resume, register and evaluate a real model. Takes the arguments of `mlc demo`."""
    install(session, *editable())
    session.run("mlc", "demo", *session.posargs)


@nox.session(python=False)
def build(session: nox.Session) -> None:
    """Build all wheels and source distributions into dist/."""
    for name in PACKAGES:
        session.run(sys.executable, "-m", "uv", "build", "--quiet", "--out-dir", "dist", f"packages/{name}")
