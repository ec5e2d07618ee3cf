"""Workflows that are classes: handlers of signals, queries, and what their errors become."""

from __future__ import annotations

import re
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

from flovyn.definitions import Query, Signal, definition_of, query, signal, workflow
from flovyn.errors import DefinitionError, PayloadError, QueryFailed, UsageError
from flovyn.replay.commands import CompleteWorkflow, FailWorkflow, ScheduleTask, SuspendWorkflow
from flovyn.serde.envelope import parse_error
from flovyn.workflow import WorkflowContext
from flovyn.workflow.queries import answer
from replay.replay_platform import plain
from workflow.cases import CACHED, Order, charge, result, running

ADD = Signal[str]("add-item")
COUNT = Query[int]("count")
ORIGIN: ContextVar[str] = ContextVar("ORIGIN", default="nowhere")


@workflow
class Cart:
    def __init__(self) -> None:
        self.items: list[str] = []
        self.paid = 0

    @signal(name=ADD)
    async def add(self, ctx: WorkflowContext, item: str) -> None:
        self.items.append(item)

    @signal
    async def pay(self, ctx: WorkflowContext, order: Order, tip: int = 0) -> None:
        self.paid += await ctx.schedule(charge, order) + tip

    @query(name=COUNT)
    def number(self) -> int:
        return len(self.items)

    @query
    def find(self, start: str, limit: int = 10) -> list[str]:
        return [item for item in self.items if item.startswith(start)][:limit]

    @query
    def changes(self) -> None:
        self.ctx.schedule_async(charge, Order("never"))

    @query
    def breaks(self) -> None:
        raise ValueError("broken")

    async def run(self, ctx: WorkflowContext, size: int) -> list[Any]:
        self.ctx = ctx
        early = [*self.items]
        await ctx.wait_condition(lambda: len(self.items) >= size)
        return [early, self.items, self.paid]


@CACHED
def test_signals_go_to_their_handlers_in_the_order_in_which_they_came(cached: bool) -> None:
    run = running(Cart, 4)
    run.platform.signal("add-item", "a")
    run.platform.signal("pay", {"order": {"id": "x", "amount": 5}, "tip": 2})
    run.platform.signal("add-item", "b")
    assert isinstance(plain(run.activate(cached=cached))[0], ScheduleTask)
    run.platform.signal("add-item", "c")
    run.activate(cached=cached)
    run.platform.complete("charge", 5)
    run.platform.signal("add-item", "d")
    # What had come before the first step was handled before `run` began.
    assert result(run.activate(cached=cached)) == [["a", "b"], ["a", "b", "c", "d"], 7]


@CACHED
def test_the_workflow_ends_when_its_handlers_have_ended(cached: bool) -> None:
    run = running(Cart, 1)
    run.platform.signal("pay", {"order": {"id": "x"}})
    run.platform.signal("add-item", "a")
    run.activate(cached=cached)
    # `run` has returned, and what it returned stands.
    assert run.execution.result is None
    run.platform.complete("charge", 1)
    assert result(run.activate(cached=cached)) == [["a"], ["a"], 0]


@workflow
class Fragile:
    async def run(self, ctx: WorkflowContext) -> None:
        if await ctx.wait_for_signal("how") == "run":
            raise KeyError("run")
        await anyio.sleep(9)

    @signal
    async def fail(self, ctx: WorkflowContext, text: str) -> None:
        raise ValueError(text)


def failure(commands: list[object]) -> tuple[str | None, str]:
    command = commands[-1]
    assert isinstance(command, FailWorkflow)
    info = parse_error(command.error)
    return info.type, info.message


@CACHED
def test_an_error_of_run_or_of_a_handler_fails_the_workflow_as_itself(cached: bool) -> None:
    run = running(Fragile)
    run.activate(cached=cached)
    run.platform.signal("fail", "handler")
    assert failure(plain(run.activate(cached=cached))) == ("ValueError", "handler")
    run = running(Fragile)
    run.activate(cached=cached)
    run.platform.signal("how", "run")
    assert failure(plain(run.activate(cached=cached))) == ("KeyError", "'run'")


@CACHED
def test_a_signal_that_does_not_fit_its_handler_fails_the_workflow_and_names_it(cached: bool) -> None:
    run = running(Fragile)
    run.platform.signal("fail", 7)
    text = "signal 'fail': the payload does not fit str: Expected `str`, got `int`, at $"
    assert failure(plain(run.activate(cached=cached))) == ("PayloadError", text)


@CACHED
def test_each_execution_has_an_instance_of_its_own_made_in_the_deterministic_world(cached: bool) -> None:
    made: list[object] = []

    @workflow
    class Made:
        def __init__(self) -> None:
            made.append(anyio.current_time())

        async def run(self, ctx: WorkflowContext) -> float:
            await anyio.sleep(1)
            return ctx.current_time().timestamp()

    run = running(Made)
    run.activate(cached=cached)
    run.platform.fire_next()
    assert result(run.activate(cached=cached)) == 1_764_000_001.0
    assert made == [1_764_000_000.0] * (1 if cached else 2)


def test_an_error_of_the_constructor_fails_the_workflow() -> None:
    @workflow
    class Unmade:
        def __init__(self) -> None:
            raise ValueError("no")

        async def run(self, ctx: WorkflowContext) -> None: ...

    assert failure(plain(running(Unmade).dry())) == ("ValueError", "no")


def test_a_handler_sees_the_context_variables_of_the_workflow_and_not_those_of_the_host() -> None:
    seen: list[str] = []

    @workflow
    class Looks:
        async def run(self, ctx: WorkflowContext) -> None:
            await ctx.wait_for_signal("end")

        @signal
        async def look(self, ctx: WorkflowContext) -> None:
            seen.append(ORIGIN.get())
            ORIGIN.set("another handler")

    token = ORIGIN.set("the host")
    try:
        run = running(Looks)
        run.platform.signal("look")
        run.activate()
        run.platform.signal("look")
        run.activate()
    finally:
        ORIGIN.reset(token)
    assert seen == ["nowhere", "nowhere"]


@CACHED
def test_a_cancelled_workflow_cancels_its_handlers(cached: bool) -> None:
    run = running(Cart, 2)
    run.platform.signal("pay", {"order": {"id": "x"}})
    run.activate(cached=cached)
    run.platform.request_cancel("enough")
    run.activate(cached=cached)
    assert run.execution.tasks.owed() == run.platform.tasks("charge")
    assert str(run.execution.result) == "CancelWorkflow(reason='enough')"


# --- queries --------------------------------------------------------------------------------


@CACHED
def test_a_query_looks_and_changes_nothing(cached: bool) -> None:
    run = running(Cart, 3)
    run.platform.signal("add-item", "ab")
    run.platform.signal("add-item", "ac")
    run.activate(cached=cached)
    execution = run.execution
    assert answer(execution, "count", b"") == b"2"
    assert answer(execution, "find", b'{"start":"a","limit":1}') == b'["ab"]'
    assert answer(execution, "find", b'{"start":"x"}') == b"[]"
    with pytest.raises(UsageError, match=r"^cannot schedule a task in a query or in the predicate of a condition: "):
        answer(execution, "changes", b"null")
    with pytest.raises(ValueError, match="^broken$"):
        answer(execution, "breaks", b"null")
    with pytest.raises(PayloadError, match=r"^query 'find': the payload does not fit find: .*`start`, at \$$"):
        answer(execution, "find", b"{}")
    with pytest.raises(
        UsageError, match=r"^workflow 'Cart' has no query 'nope'; it answers count, find, changes, breaks$"
    ):
        answer(execution, "nope", b"null")
    run.platform.signal("add-item", "c")
    assert result(run.activate(cached=cached)) == [["ab", "ac"], ["ab", "ac", "c"], 0]


def test_only_a_class_that_has_begun_can_be_asked() -> None:
    run = running(Cart, 3)
    with pytest.raises(QueryFailed, match="cannot be asked yet: it has not begun"):
        answer(run.execution, "count", b"null")

    @workflow
    async def plain_function(ctx: WorkflowContext) -> None: ...

    run = running(plain_function)
    run.activate()
    with pytest.raises(UsageError, match="^workflow 'plain_function' has no query 'count'; it answers none$"):
        answer(run.execution, "count", b"null")


# --- definitions ----------------------------------------------------------------------------


def test_the_decorator_returns_the_class_itself() -> None:
    @workflow(name="A cart", kind="cart", version="2.0.0", tags=["shop"])
    class Decorated:
        """Holds things."""

        async def run(self, ctx: WorkflowContext, size: int) -> int:
            return size

    assert isinstance(Decorated(), Decorated)
    definition = definition_of(Decorated)
    assert (definition.kind, definition.name, definition.version, definition.tags, definition.description) == (
        "cart",
        "A cart",
        "2.0.0",
        ("shop",),
        "Holds things.",
    )
    assert definition.encode_input((3,), {}) == b"3"
    assert re.fullmatch(r"<workflow 'cart' at .*test_classes\.py:\d+>", repr(definition))


def test_a_class_is_no_workflow_for_having_one_as_its_base() -> None:
    class Sub(Cart):
        pass

    with pytest.raises(DefinitionError, match=r"is no workflow: decorate the function or the class itself"):
        definition_of(Sub)
    decorated = workflow(Sub)
    parts = definition_of(decorated).parts
    assert parts is not None
    assert list(parts.signals) == ["add-item", "pay"]


class NoRun:
    pass


class SyncRun:
    def run(self, ctx: Any) -> None: ...


class NoContext:
    async def run(self) -> None: ...


class NeedsArguments:
    def __init__(self, size: int) -> None: ...

    async def run(self, ctx: Any) -> None: ...


class SyncHandler:
    async def run(self, ctx: Any) -> None: ...

    @signal
    def add(self, ctx: Any) -> None: ...


class HandlerWithoutContext:
    async def run(self, ctx: Any) -> None: ...

    @signal
    async def add(self, item: str) -> None: ...


class AsyncQuery:
    async def run(self, ctx: Any) -> None: ...

    @query
    async def count(self) -> int:
        return 1


class Twice:
    async def run(self, ctx: Any) -> None: ...

    @signal(name="add")
    async def one(self, ctx: Any) -> None: ...

    @signal(name="add")
    async def two(self, ctx: Any) -> None: ...


class StaticHandler:
    async def run(self, ctx: Any) -> None: ...

    @staticmethod
    @query
    def count() -> int:
        return 1


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (NoRun, "the class NoRun has no `async def run(self, ctx, ...)`, as @workflow needs"),
        (SyncRun, "SyncRun.run is not asynchronous; write it as `async def` without `yield`, as @workflow needs"),
        (
            NoContext,
            "NoContext.run needs the context as its first parameter after `self`, named `ctx`; its first parameter is "
            "none",
        ),
        (
            NeedsArguments,
            "NeedsArguments has to be made without arguments, as each execution makes its own: missing a required "
            "argument: 'size'. Give `__init__` none; the input of the workflow goes to `run`",
        ),
        (SyncHandler, "SyncHandler.add is not asynchronous; write it as `async def` without `yield`, as @signal needs"),
        (
            HandlerWithoutContext,
            "HandlerWithoutContext.add needs the context as its first parameter after `self`, named `ctx`; its first "
            "parameter is `item: 'str'`",
        ),
        (
            AsyncQuery,
            "AsyncQuery.count is asynchronous or a generator; write it as a plain `def`: a @query waits for nothing",
        ),
        (Twice, "Twice has two handlers of the signal 'add', `one` and `two`; give one of them another name=..."),
        (StaticHandler, "StaticHandler.count is a staticmethod; a @query is a method with `self`"),
    ],
)
def test_bad_classes_name_the_place_and_the_remedy(cls: type[Any], message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        workflow(cls)
    where, _, text = caught.value.message.partition(": ")
    assert re.fullmatch(rf"{re.escape(__file__)}:\d+", where)
    assert text == message


def test_a_handler_is_a_method_with_a_good_name() -> None:
    with pytest.raises(DefinitionError, match="^@signal decorates a method of a workflow's class, not 7$"):
        signal(7)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
    with pytest.raises(UsageError, match=r"'\$x' cannot be used as query name"):
        query(name="$x")(Cart.number)


def test_suspended_while_only_a_condition_is_waited_for() -> None:
    assert running(Cart, 1).dry().commands[-1] == SuspendWorkflow("Waiting")
    assert CompleteWorkflow(b"null") not in running(Cart, 1).dry().commands
