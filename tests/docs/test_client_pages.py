"""The pages for users of the client say what it does."""

from __future__ import annotations

import inspect
import pkgutil
import re
from typing import Any

import pytest

import flovyn
import flovyn.blocking
from docs.client_tables import PAGE, TABLE, between
from flovyn import errors
from house.source import ROOT


def test_the_table_of_calls_is_what_the_client_does() -> None:
    text = PAGE.read_text(encoding="utf-8")
    start, stop = between(text)
    assert text[start:stop] == f"\n{TABLE}\n", "run python tests/docs/client_tables.py"


def public(owner: type[Any]) -> set[str]:
    return {name for name, _ in inspect.getmembers(owner, inspect.isfunction) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("owner", "prefix"),
    [(flovyn.Client, "client"), (flovyn.WorkflowHandle, "handle"), (flovyn.SubmittedTask, "submitted")],
)
def test_every_call_is_in_the_table(owner: type[Any], prefix: str) -> None:
    # What sends nothing by itself.
    silent = {"connection", "handle", "options", "submit_options", "task_handle"}
    bare = {"start", "execute", "submit"}
    for name in public(owner) - silent:
        assert f"`{name}`" in TABLE if name in bare else f"`{prefix}.{name}`" in TABLE, name


@pytest.mark.parametrize(
    ("owner", "blocking"),
    [
        (flovyn.Client, flovyn.blocking.Client),
        (flovyn.WorkflowHandle, flovyn.blocking.WorkflowHandle),
        (flovyn.SubmittedTask, flovyn.blocking.SubmittedTask),
    ],
)
def test_threads_have_every_call_with_the_same_parameters(owner: type[Any], blocking: type[Any]) -> None:
    assert public(blocking) == public(owner) - {"connection"}
    for name in public(blocking):
        assert parameters(getattr(blocking, name)) == parameters(getattr(owner, name)), name


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    return [(each.name, each.kind, each.default) for each in inspect.signature(function).parameters.values()]


def test_every_error_is_on_its_page() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([A-Z]\w+)`", page))
    assert set(errors.__all__) - named == set()


def test_everything_of_flovyn_that_the_pages_name_is_there() -> None:
    for name in ("errors.md", "migrating.md"):
        page = (ROOT / "docs" / name).read_text(encoding="utf-8")
        for found in re.findall(r"`(flovyn(?:\.\w+)+)`", page):
            assert pkgutil.resolve_name(found) is not None
