"""Everything that is run on this project: `nox` for all that has to pass, `nox -l` for the rest.

Each session makes its own virtual environment from constraints.txt, so a fresh clone needs Python 3.11, pip and nox.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.sessions = ["lint", "types", "proto", "tests", "tests_lowest", "conformance"]
nox.options.reuse_existing_virtualenvs = True

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml("pyproject.toml")
EXTRAS = ".[cli,encryption,http,otel,pydantic,server,trio,uvloop]"
REQUIRED = "3.11"
WANTED = ["3.11", "3.12", "3.13", "3.14"]
PARALLEL = [f"--numprocesses={(os.cpu_count() or 1) + 1}"]  # one more than processors: a good part of the tests waits


def _runs(interpreter: str, version: str) -> bool:
    """Whether an interpreter is what its name says: a version manager's shim is there without its Python."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        run = subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return run.stdout.strip() == version


def _find(version: str) -> Path | None:
    name = f"python{version}"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [sys.executable, shutil.which(name), *sorted(map(str, pyenv.glob(f"{version}.*/bin/{name}")))]
    found = next((path for path in candidates if path is not None and _runs(path, version)), None)
    return None if found is None else Path(found)


def _present() -> list[str]:
    """The wanted Pythons of this machine, each made the first of its name on PATH, where nox looks."""
    found = {version: path for version in WANTED if (path := _find(version)) is not None}
    places = [str(path.parent) for path in found.values()]
    os.environ["PATH"] = os.pathsep.join([*places, os.environ.get("PATH", "")])
    return [version for version in WANTED if version in found or version == REQUIRED]


PYTHONS = _present()


def _install(session: nox.Session, *groups: str, constraints: str = "constraints.txt") -> None:
    requirements = nox.project.dependency_groups(PROJECT, *groups)
    session.install("--quiet", "-c", constraints, "-e", EXTRAS, *requirements)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The suite on asyncio, asyncio with uvloop, and trio, for every Python that is here."""
    missing = [version for version in WANTED if version not in PYTHONS]
    if missing:
        session.log("skipped, as not on this machine: Python " + ", ".join(missing))
    _install(session, "test")
    # The other Pythons get a shorter profile.
    profile = "ci" if session.python == REQUIRED else "quick"
    session.run("pytest", *(session.posargs or [*PARALLEL, f"--hypothesis-profile={profile}"]))


@nox.session(python=REQUIRED)
def tests_lowest(session: nox.Session) -> None:
    """The tests of what leans on others' insides, on the oldest versions that are allowed; `-- tests` for all tests."""
    _install(session, "test", constraints="constraints-lowest.txt")
    leaning = ["tests/nursery", "tests/serde", "tests/wire"]
    session.run("pytest", *(session.posargs or [*PARALLEL, "--hypothesis-profile=quick", *leaning]))


@nox.session(python=REQUIRED)
def deep(session: nox.Session) -> None:
    """The same tests with big numbers, and those that only make sense with them."""
    _install(session, "test")
    # A test may take minutes here, and the dump of the stacks that is due after two can crash a Python that is busy.
    options = ["--hypothesis-profile=deep", "-o", "faulthandler_timeout=0", "-m", "deep or not deep"]
    session.run("pytest", *options, *session.posargs)


@nox.session(python=REQUIRED)
def lint(session: nox.Session) -> None:
    """Style, and what flake8-async knows about structured concurrency."""
    requirements = nox.project.dependency_groups(PROJECT, "lint")
    session.install("--quiet", "-c", "constraints.txt", *requirements)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("flake8", "src", "tests", "examples", "benchmarks")
    # As strict about the names of news fragments as a release will be.
    session.run("towncrier", "build", "--draft", "--version", "next")


@nox.session(python=REQUIRED)
def types(session: nox.Session) -> None:
    """mypy and pyright, both strict, that every public name has a known type, and that mistakes are found."""
    _install(session, "types")
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "--verifytypes", "flovyn", "--ignoreexternal")
    # Patterns and mistakes, and what both checkers have to say of each line.
    session.run("pytest", "tests/typing")


@nox.session(python=REQUIRED)
def proto(session: nox.Session) -> None:
    """Generate the messages again and fail on a difference; `nox -s proto -- --write` keeps it."""
    requirements = nox.project.dependency_groups(PROJECT, "proto")
    session.install("--quiet", "-c", "constraints.txt", *requirements)
    arguments = [] if "--write" in session.posargs else ["--check"]
    session.run("python", "proto/generate.py", *arguments)


@nox.session(python=REQUIRED)
def demo(session: nox.Session) -> None:
    """The example: an embedded server, a worker and a client; shows the history and the result."""
    _install(session)
    session.run("python", "-m", "examples.order_demo", *session.posargs)


@nox.session(python=REQUIRED)
def bench(session: nox.Session) -> None:
    """Every benchmark; compare figures of one run only."""
    _install(session, "bench")
    for benchmark in sorted((ROOT / "benchmarks").glob("*.py")):
        session.run("python", str(benchmark.relative_to(ROOT)), *session.posargs)


@nox.session(python=REQUIRED)
def conformance(session: nox.Session) -> None:
    """AnyIO's own tests against the nursery, from its source distribution; prints how many passed."""
    _install(session, "conformance")
    session.run("python", "tests/conformance/run.py", session.create_tmp(), *session.posargs)
