"""What type checkers make of definitions: these functions run, but mypy and pyright are what judges them."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, assert_type

import pytest

from flovyn.definitions import Task, Workflow, task, workflow
from flovyn.errors import DefinitionError


@dataclass
class Order:
    id: str


@dataclass
class Receipt:
    order: Order


class Context:
    """Stands for any context: definitions do not know which."""


@task
async def charge(ctx: Context, order: Order, amount: int = 1) -> Receipt:
    return Receipt(order)


@task(queue="gpu", start_to_close=30)
async def render(ctx: Context) -> bytes:
    return b""


@workflow
async def place(ctx: Context, order: Order) -> list[Receipt]:
    return [Receipt(order)]


@workflow(version="2.0.0")
async def nothing(ctx: Context, *, keyword: str) -> None: ...


def test_decorated_functions_keep_their_types() -> None:
    assert_type(charge.decode_output(b'{"order":{"id":"o"}}'), Receipt)
    assert_type(render.decode_output(b'""'), bytes)
    assert_type(place.decode_output(b"[]"), list[Receipt])
    assert_type(nothing.decode_output(b""), None)


def test_calls_keep_their_types() -> None:
    coroutine = assert_type(charge(Context(), Order("o"), amount=2), Coroutine[Any, Any, Receipt])
    coroutine.close()


def test_options_keep_their_types() -> None:
    assert_type(render.options(queue="cpu"), Task[[], bytes])
    assert_type(render, Task[[], bytes])


def test_any_definition_fits_where_any_is_wanted() -> None:
    tasks: list[Task[..., Any]] = [charge, render]
    workflows: list[Workflow[..., Any]] = [place, nothing]
    assert len(tasks) == len(workflows)


def test_wrong_uses_are_type_errors() -> None:
    # With `warn_unused_ignores` and its like in pyright, each of these fails the check if it ever becomes no error.
    charge(Context(), "o").close()  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError):
        charge(Context()).close()  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    with pytest.raises(DefinitionError):

        @task  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        def synchronous(ctx: Context) -> None: ...
