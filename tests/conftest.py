"""What every test shares: the three host backends and the Hypothesis profiles."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Small and the same on every run, so that a red suite is red for everybody; `deep` is where new examples are found.
settings.register_profile(
    "ci",
    max_examples=40,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    print_blob=True,
)
settings.register_profile("quick", parent=settings.get_profile("ci"), max_examples=10)
settings.register_profile("deep", parent=settings.get_profile("ci"), max_examples=2_000, derandomize=False)
settings.load_profile("ci")

BACKENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "asyncio+uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}
MISSING_UVLOOP = pytest.mark.skipif(
    importlib.util.find_spec("uvloop") is None and (sys.platform == "win32" or sys.version_info >= (3, 14)),
    reason="no uvloop for this platform or Python; elsewhere its absence is an error",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--backend", choices=list(BACKENDS), help="run async tests on this host backend only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = config.getoption("--backend")
    if wanted is None:
        return
    kept: list[pytest.Item] = []
    dropped: list[pytest.Item] = []
    for item in items:
        callspec = getattr(item, "callspec", None)
        backend = None if callspec is None else callspec.params.get("anyio_backend")
        (kept if backend in (None, BACKENDS[wanted]) else dropped).append(item)
    config.hook.pytest_deselected(items=dropped)
    items[:] = kept


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(backend, id=name, marks=MISSING_UVLOOP if name == "asyncio+uvloop" else ())
        for name, backend in BACKENDS.items()
    ],
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """The host backend, as AnyIO's pytest plugin reads it."""
    return request.param
