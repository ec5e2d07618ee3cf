"""AnyIO's own tests against the nursery, from the source distribution of the AnyIO that is installed.

python tests/conformance/run.py DIRECTORY [PYTEST OPTIONS]

The distribution is downloaded into DIRECTORY by pip, unless it is there.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

# What tests sockets, files, threads, processes, signals or AnyIO's own plumbing is not here.
FILES = [
    "tests/test_taskgroups.py",  # task groups, their handles, and cancel scopes
    "tests/test_synchronization.py",
    "tests/test_eventloop.py",  # sleeping
    "tests/test_debugging.py",  # task info, and waiting until all tasks are blocked
    "tests/test_concurrency_utils.py",
    "tests/test_contextmanagers.py",
    "tests/test_functools.py",
    "tests/test_futures.py",
    "tests/test_itertools.py",
    "tests/test_lowlevel.py",
    "tests/streams/test_buffered.py",
    "tests/streams/test_memory.py",
    "tests/streams/test_stapled.py",
    "tests/streams/test_text.py",
]


def fetch(directory: Path) -> Path:
    """The unpacked source distribution."""
    version = importlib.metadata.version("anyio")
    unpacked = directory / f"anyio-{version}"
    if not unpacked.is_dir():
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", "anyio"]
        pip = [sys.executable, "-m", "pip", "download", *options, "--dest", str(directory), f"anyio=={version}"]
        subprocess.run(pip, check=True)
        with tarfile.open(directory / f"anyio-{version}.tar.gz") as archive:
            archive.extractall(directory, filter="data")
    return unpacked


def main(directory: Path, options: list[str]) -> int:
    """Run them; the exit code of pytest."""
    os.chdir(fetch(directory.resolve()))
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    # By name, because pytest has to see AnyIO's own plugin before anything imports AnyIO.
    return pytest.main(["-q", "-p", "no:cacheprovider", "-p", "conformance.plugin", *options, *FILES])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
