"""The judge of AnyIO's tests is not fooled: by stale entries, by tests that skip themselves, or by no tests at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

@pytest.fixture(params=["flovyn", "trio"])
def anyio_backend(request):
    return request.param

def test_passes(anyio_backend):
    pass

def test_fails(anyio_backend):
    assert anyio_backend == "trio"

@pytest.mark.xfail(strict=True)
def test_passes_against_its_own_expectation(anyio_backend):
    pass

def test_skips_itself(anyio_backend):
    pytest.skip("not here")

def test_of_no_backend():
    assert False
"""

RUN = """
import sys
import pytest
from conformance.judge import Judge

judge = Judge({excused})
options = ["-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", ".", "test_fake.py", "-k", "{wanted}"]
code = pytest.main(options, plugins=[judge])
print("faults:", *judge.faults, sep=chr(10))
sys.exit(code)
"""


def judged(directory: Path, wanted: str, **excused: str) -> tuple[int, str]:
    """The exit code and the last lines of a session over those of the tests above that `wanted` selects."""
    (directory / "test_fake.py").write_text(TESTS)
    names = {f"test_fake.py::{name}[flovyn]": reason for name, reason in excused.items()}
    script = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})" + RUN.format(
        excused=names, wanted=wanted
    )
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    return run.returncode, run.stdout


def test_only_tests_of_the_backend_count(tmp_path: Path) -> None:
    code, output = judged(tmp_path, "test_passes and not own or test_of_no_backend")
    assert code == pytest.ExitCode.OK
    assert "conformance: 1 of AnyIO's tests passed on 'flovyn'" in output


def test_nothing_collected_fails(tmp_path: Path) -> None:
    code, output = judged(tmp_path, "test_of_no_backend")
    assert code == pytest.ExitCode.NO_TESTS_COLLECTED
    assert "conformance: 0 of AnyIO's tests" in output


def test_a_failure_fails(tmp_path: Path) -> None:
    assert judged(tmp_path, "test_fails")[0] == pytest.ExitCode.TESTS_FAILED


def test_an_excused_failure_is_shown_with_its_reason(tmp_path: Path) -> None:
    code, output = judged(
        tmp_path, "test_fails or own", test_fails="no threads", test_passes_against_its_own_expectation="virtual time"
    )
    assert code == pytest.ExitCode.OK
    assert "conformance: 0 of AnyIO's tests" in output
    assert output.endswith("faults:\n")


def test_an_excused_test_that_passes_fails(tmp_path: Path) -> None:
    code, output = judged(tmp_path, "test_passes and not own", test_passes="no threads")
    assert code == pytest.ExitCode.TESTS_FAILED
    assert output.endswith("faults:\nexcused, but it passes: test_fake.py::test_passes[flovyn]\n")


def test_an_excuse_for_no_test_fails(tmp_path: Path) -> None:
    code, output = judged(tmp_path, "test_passes and not own", test_gone="no threads")
    assert code == pytest.ExitCode.TESTS_FAILED
    assert output.endswith("faults:\nexcused, but there is no such test: test_fake.py::test_gone[flovyn]\n")


def test_a_test_that_skips_itself_needs_an_excuse(tmp_path: Path) -> None:
    code, output = judged(tmp_path, "skips")
    assert code == pytest.ExitCode.TESTS_FAILED
    assert output.endswith("faults:\nneither run nor excused: test_fake.py::test_skips_itself[flovyn]\n")
