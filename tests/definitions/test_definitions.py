from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import msgspec
import pytest

from flovyn.definitions import Task, Workflow, definition_of, options, task, task_of, workflow
from flovyn.errors import DefinitionError, PayloadError

if TYPE_CHECKING:
    from types import CodeType as TaskContext  # any class that only type checkers see


T = TypeVar("T")


@dataclass
class Order:
    id: str
    items: list[str] = field(default_factory=list[str])


@task
async def charge(ctx: TaskContext, order: Order) -> int:
    """Take the money.

    All of it.
    """
    return len(order.items)


@workflow(name="Place an order", kind="place-order", version="2.0.0", tags=["shop"])
async def place_order(ctx: Any, order: Order, *, express: bool = False, note: str | None = None) -> list[Order]:
    return [order] if express else []


@task
async def tick(_: object) -> None: ...


@task
async def greet(context: Any, name: str = "you") -> str:
    return f"Hello, {name}"


def result(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    raise AssertionError("the coroutine waits")


def test_names_default_to_the_function() -> None:
    assert isinstance(charge, Task)
    assert (charge.kind, charge.name, charge.description, charge.tags) == (
        "charge",
        "charge",
        "Take the money.\n\nAll of it.",
        (),
    )
    assert (charge.queue, charge.schedule_to_close, charge.start_to_close) == (None, None, None)
    assert re.fullmatch(r"<task 'charge' at .*test_definitions\.py:\d+>", repr(charge))


def test_options_of_a_workflow() -> None:
    assert isinstance(place_order, Workflow)
    assert (place_order.kind, place_order.name, place_order.version, place_order.tags, place_order.description) == (
        "place-order",
        "Place an order",
        "2.0.0",
        ("shop",),
        "",
    )


def test_more_options_of_a_workflow() -> None:
    @workflow(queue="slow", cancellable=False)
    async def settle(ctx: Any) -> None: ...

    @workflow(queue="slow")
    class Cart:
        async def run(self, ctx: Any) -> None: ...

    assert (settle.queue, settle.cancellable, settle.options(queue="fast").cancellable) == ("slow", False, False)
    assert (place_order.queue, place_order.cancellable) == (None, True)
    assert definition_of(Cart).queue == "slow"


def test_options_of_a_class_are_a_changed_copy() -> None:
    @workflow(kind="cart")
    class Cart:
        async def run(self, ctx: Any, size: int) -> list[str]: ...  # type: ignore[empty-body]

    fast = options(Cart, queue="fast", priority=60, child_name="first", on_cancel="wait")
    assert (fast.kind, fast.queue, fast.priority, fast.child_name, fast.on_cancel) == (
        "cart",
        "fast",
        timedelta(minutes=1),
        "first",
        "wait",
    )
    assert fast.parts is definition_of(Cart).parts
    assert definition_of(Cart).queue is None
    assert options(fast, queue="slow").child_name == "first"
    with pytest.raises(DefinitionError, match="is no workflow: decorate the function or the class itself"):
        options(charge)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_the_kind_defaults_to_the_name() -> None:
    @task(name="Send mail", description="")
    async def mail(ctx: Any) -> None:
        """Not this."""

    assert (mail.kind, mail.description) == ("Send mail", "")


def test_definitions_can_be_called_like_the_function() -> None:
    assert result(charge(None, Order("o", ["a"]))) == 1
    assert result(place_order(object(), Order("o"), express=True)) == [Order("o")]


@pytest.mark.parametrize(
    ("definition", "args", "kwargs", "data"),
    [
        (tick, (), {}, b"null"),
        (charge, (Order("o"),), {}, b'{"id":"o","items":[]}'),
        (charge, (), {"order": Order("o")}, b'{"id":"o","items":[]}'),
        (greet, (), {}, b'"you"'),
        (place_order, (Order("o"),), {"express": True}, b'{"order":{"id":"o","items":[]},"express":true,"note":null}'),
    ],
)
def test_input_payloads(definition: Any, args: tuple[Any, ...], kwargs: dict[str, Any], data: bytes) -> None:
    assert definition.encode_input(args, kwargs) == data


@pytest.mark.parametrize(
    ("definition", "data", "args", "kwargs"),
    [
        (tick, b"", (), {}),
        (tick, b'{"ignored":1}', (), {}),
        (charge, b'{"id":"o"}', (Order("o"),), {}),
        (greet, b"", ("you",), {}),
        (greet, b"null", ("you",), {}),
        (greet, b'"me"', ("me",), {}),
        (place_order, b'{"order":{"id":"o"}}', (Order("o"),), {"express": False, "note": None}),
        (place_order, b'{"note":"n","order":{"id":"o"},"newer":1}', (Order("o"),), {"express": False, "note": "n"}),
    ],
)
def test_reading_input(definition: Any, data: bytes, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    assert definition.decode_input(data) == (args, kwargs)


@pytest.mark.parametrize(
    ("definition", "data", "message"),
    [
        (charge, b"", "the payload does not fit Order: Expected `object`, got `null`, at $"),
        (greet, b"1", "the payload does not fit str: Expected `str`, got `int`, at $"),
        (place_order, b"{}", "the payload does not fit place_order: Object missing required field `order`, at $"),
        (
            place_order,
            b'{"order":{"id":"o","items":[1]}}',
            "the payload does not fit place_order: Expected `str`, got `int`, at $.order.items[0]",
        ),
    ],
)
def test_input_that_does_not_fit(definition: Any, data: bytes, message: str) -> None:
    with pytest.raises(PayloadError) as caught:
        definition.invoke(None, data)
    assert caught.value.message == message


def test_one_parameter_that_may_be_none_gets_none() -> None:
    @task
    async def maybe(ctx: Any, name: str | None = "default") -> None: ...

    assert maybe.decode_input(b"null") == ((None,), {})


def test_mutable_defaults_are_the_functions_own() -> None:
    shared: list[int] = []

    @task
    async def collect(ctx: Any, first: int, into: list[int] = shared) -> None: ...

    args, _ = collect.decode_input(b'{"first":1}')
    assert args[1] is shared


def test_invoke_runs_the_function_on_the_payload() -> None:
    assert result(charge.invoke("ctx", b'{"id":"o","items":["a","b"]}')) == 2
    assert result(place_order.invoke("ctx", b'{"order":{"id":"o"},"express":true}')) == [Order("o")]


def test_results_are_read_as_the_declared_type() -> None:
    assert place_order.encode_output([Order("o")]) == b'[{"id":"o","items":[]}]'
    assert place_order.decode_output(b'[{"id":"o"}]') == [Order("o")]
    assert tick.decode_output(b"") is None
    with pytest.raises(PayloadError, match=re.escape("does not fit int: Expected `int`, got `str`, at $")):
        charge.decode_output(b'"x"')


@pytest.mark.parametrize(
    ("args", "kwargs", "reason"),
    [
        ((), {}, "missing a required argument: 'order'"),
        ((Order("o"), 1), {}, "too many positional arguments"),
        ((Order("o"),), {"amount": 1}, "got an unexpected keyword argument 'amount'"),
    ],
)
def test_a_call_that_does_not_match_the_signature(args: tuple[Any, ...], kwargs: dict[str, Any], reason: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        charge.encode_input(args, kwargs)
    assert str(caught.value) == f"charge(order: 'Order') cannot be called like that: {reason}"


def test_an_argument_that_cannot_be_written() -> None:
    with pytest.raises(PayloadError, match=re.escape("cannot write $.note:")):
        place_order.encode_input((Order("o"),), {"note": object()})


def test_task_options_make_a_copy() -> None:
    slow = charge.options(queue="slow", schedule_to_close=1.5)
    assert (slow.queue, slow.schedule_to_close, slow.fn) == ("slow", timedelta(seconds=1.5), charge.fn)
    assert (charge.queue, charge.schedule_to_close) == (None, None)
    again = slow.options(schedule_to_close=timedelta(days=1))
    assert (again.queue, again.schedule_to_close) == ("slow", timedelta(days=1))


@pytest.mark.parametrize("limit", [0, -1, float("inf"), float("nan"), timedelta(0)])
def test_limits_are_positive(limit: Any) -> None:
    with pytest.raises(DefinitionError, match="has to be a positive time"):
        charge.options(schedule_to_close=limit)
    with pytest.raises(DefinitionError, match="charge: start_to_close=.* has to be a positive time"):
        task(start_to_close=limit)(charge.fn)


def test_schemas() -> None:
    def read(schema: bytes) -> Any:
        return msgspec.json.decode(schema)

    assert read(tick.input_schema) == read(tick.output_schema) == {"type": "null"}
    assert read(charge.input_schema)["$ref"] == "#/$defs/Order"
    assert read(charge.output_schema) == {"type": "integer"}
    assert read(place_order.input_schema)["$defs"]["place_order"] == {
        "title": "place_order",
        "type": "object",
        "properties": {
            "order": {"$ref": "#/$defs/Order"},
            "express": {"type": "boolean", "default": False},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        },
        "required": ["order"],
    }


def test_defaults_stand_in_the_schema_if_json_has_a_form_for_them() -> None:
    first, anything = Order("o"), object()

    @task
    async def several(ctx: Any, when: Order = first, much: Any = anything, *, often: int = 3) -> None: ...

    schema = msgspec.json.decode(several.input_schema)
    properties = schema["$defs"]["several"]["properties"]
    assert properties["when"] == {"$ref": "#/$defs/Order", "default": {"id": "o", "items": []}}
    assert properties["often"] == {"type": "integer", "default": 3}
    assert "default" not in properties["much"]
    assert msgspec.json.decode(greet.input_schema) == {
        "anyOf": [{"type": "string"}, {"type": "null"}],
        "default": "you",
    }

    @task
    async def one(ctx: Any, order: Order = first) -> None: ...

    schema = msgspec.json.decode(one.input_schema)
    assert (schema["anyOf"], schema["default"]) == (
        [{"$ref": "#/$defs/Order"}, {"type": "null"}],
        {"id": "o", "items": []},
    )
    assert list(schema["$defs"]) == ["Order"]
    assert msgspec.json.decode(tick.input_schema) == {"type": "null"}


SCHEMA_PROGRAM = """
import enum, sys
from dataclasses import dataclass
from typing import Literal, TypedDict
import msgspec, pydantic
from flovyn import task

class Colour(enum.Enum):
    RED, GREEN, BLUE = "red", "green", "blue"

class Address(pydantic.BaseModel):
    street: str
    tags: frozenset[Literal["x", "y", "z"]] = frozenset({"x", "y"})

class Extra(TypedDict, total=False):
    a: int
    b: str

class Left(msgspec.Struct, tag=True):
    colours: set[Colour]

class Right(msgspec.Struct, tag=True):
    choice: Literal["one", "two"]

@dataclass
class Order:
    address: Address
    either: Left | Right
    extra: Extra

@task
async def place(
    ctx, order: Order, left: Left | None = None, *, names: set[str] = frozenset({"n", "m", "o", "p"})
) -> dict[str, Order]: ...

sys.stdout.buffer.write(place.input_schema + place.output_schema)
"""


def test_schemas_are_the_same_bytes_in_every_process() -> None:
    """Whoever compares them, to see whether a definition has changed, must not be misled by an order of hashes."""
    written = {
        subprocess.run(
            [sys.executable, "-c", SCHEMA_PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in (1, 2, 3)
    }
    assert len(written) == 1
    assert b'"Order"' in written.pop()


def test_types_of_an_enclosing_function_are_found() -> None:
    @dataclass
    class Local:
        n: int

    @task(queue="q")
    async def with_arguments(ctx: Any, local: Local) -> Local:
        return local

    assert with_arguments.decode_input(b'{"n":1}') == ((Local(1),), {})
    assert with_arguments.decode_output(b'{"n":1}') == Local(1)


def test_without_annotations_payloads_are_plain_data() -> None:
    names: dict[str, Any] = {}
    exec("async def loose(ctx, anything): return anything", names)
    definition: Task[..., Any] = task(names["loose"])
    assert definition.decode_input(b'{"a":[1]}') == (({"a": [1]},), {})
    assert definition.decode_output(b"[1.5]") == [1.5]


def test_a_function_that_never_returns_has_a_null_result() -> None:
    @workflow
    async def forever(ctx: Any) -> NoReturn:
        raise AssertionError

    assert msgspec.json.decode(forever.output_schema) == {"type": "null"}


class Holder:
    @staticmethod
    def make() -> None: ...


async def generator(ctx: Any) -> Any:
    yield 1


async def no_context(order: Order) -> None: ...


async def no_parameters() -> None: ...


async def keyword_context(*, ctx: Any) -> None: ...


async def variadic(ctx: Any, *orders: Order) -> None: ...


async def keywords(ctx: Any, **orders: Order) -> None: ...


async def unknown_type(ctx: Any, order: TaskContext) -> None: ...


async def unknown_result(ctx: Any) -> TaskContext:
    raise AssertionError


async def unreadable(ctx: Any, order: Callable[[], int]) -> None: ...


async def unreadable_result(ctx: Any) -> complex:
    return 1j


async def synthetic(ctx: Any) -> None: ...


def synchronous(ctx: Any) -> None: ...


def sync_generator(ctx: Any) -> Any:
    yield 1


class Variadic:
    async def run(self, ctx: Any, *orders: Order) -> None: ...


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (generator, "FILE: generator is a generator; write it without `yield`, and return"),
        (sync_generator, "FILE: sync_generator is a generator; write it without `yield`, and return"),
        (
            no_context,
            "FILE: no_context needs the context as its first parameter, named `ctx`; "
            "its first parameter is `order: 'Order'`",
        ),
        (
            no_parameters,
            "FILE: no_parameters needs the context as its first parameter, named `ctx`; its first parameter is none",
        ),
        (
            keyword_context,
            "FILE: keyword_context needs the context as its first parameter, named `ctx`; "
            "its first parameter is `ctx: 'Any'`",
        ),
        (
            variadic,
            "FILE: variadic: `*orders: 'Order'` has no place in a payload; "
            "name each parameter, or take one list or dict",
        ),
        (
            keywords,
            "FILE: keywords: `**orders: 'Order'` has no place in a payload; "
            "name each parameter, or take one list or dict",
        ),
        (
            unknown_type,
            "FILE: the type of the parameter `order` of unknown_type is not known here: "
            "name 'TaskContext' is not defined. It has to be imported (not only under TYPE_CHECKING) "
            "or defined before the function, as payloads are read by it",
        ),
        (
            unknown_result,
            "FILE: the type of the result of unknown_result is not known here: "
            "name 'TaskContext' is not defined. It has to be imported (not only under TYPE_CHECKING) "
            "or defined before the function, as payloads are read by it",
        ),
        (
            unreadable,
            "FILE: the parameter `order` of unreadable: the type collections.abc.Callable[[], int] cannot be a "
            "payload: Callable has no form in JSON; use a dataclass, a Struct or a plain type instead",
        ),
        (
            unreadable_result,
            "FILE: the result of unreadable_result: the type complex cannot be a payload: "
            "complex has no form in JSON; use a dataclass, a Struct or a plain type instead",
        ),
    ],
)
def test_bad_definitions_name_the_place_and_the_remedy(fn: Any, message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        task(fn)
    assert str(caught.value) == message.replace("FILE", f"{__file__}:{fn.__code__.co_firstlineno}")


def test_what_is_not_a_function_is_refused() -> None:
    with pytest.raises(
        DefinitionError, match=r"definitions\.py:\d+: the class Holder has no `async def run\(self, ctx, "
    ):
        workflow(Holder)  # type: ignore[type-var] # pyright: ignore[reportCallIssue, reportArgumentType]
    with pytest.raises(DefinitionError, match="@task decorates a function or a class, not a Task: <task 'charge'"):
        task(charge)


class Resize:
    """Makes pictures smaller."""

    async def run(self, ctx: Any, path: str, *, width: int = 100) -> tuple[str, int]:
        return path, width


def test_a_class_is_a_task_and_stays_itself() -> None:
    made = task(kind="resize", queue="gpu")(Resize)
    assert made is Resize
    definition = task_of(Resize)
    assert (definition.kind, definition.name, definition.queue) == ("resize", "Resize", "gpu")
    assert (definition.description, definition.in_thread) == ("Makes pictures smaller.", False)
    assert definition.encode_input(("a.png",), {}) == b'{"path":"a.png","width":100}'
    assert result(definition.invoke(None, b'{"path":"a.png"}')) == ("a.png", 100)


def test_each_call_of_a_task_that_is_a_class_makes_an_instance() -> None:
    @task
    class Counting:
        def __init__(self) -> None:
            self.calls = 0

        async def run(self, ctx: Any) -> int:
            self.calls += 1
            return self.calls

    definition = task_of(Counting)
    assert [result(definition(None)), result(definition(None))] == [1, 1]


class NoRun: ...


class SyncRun:
    def run(self, ctx: Any) -> None: ...


class Needy:
    def __init__(self, model: str) -> None: ...

    async def run(self, ctx: Any) -> None: ...


class Lost:
    async def run(self) -> None: ...


@pytest.mark.parametrize(
    ("cls", "reason"),
    [
        (NoRun, r"the class NoRun has no `async def run\(self, ctx, ...\)`, as @task needs$"),
        (SyncRun, r"as @task needs; a body that is to run in a thread is a plain function of its own$"),
        (Needy, r"Needy has to be made without arguments, as each attempt makes its own: .*'model'"),
        (Lost, "Lost.run needs the context as its first parameter after `self`, named `ctx`"),
        (Variadic, "Variadic.run: `\\*orders: 'Order'` has no place in a payload"),
    ],
)
def test_classes_that_cannot_be_tasks(cls: Any, reason: str) -> None:
    with pytest.raises(DefinitionError, match=r"definitions\.py:\d+: .*" + reason):
        task(cls)


def test_a_class_is_no_task_by_its_base() -> None:
    task(Resize)

    class Derived(Resize): ...

    for given in (Derived, NoRun, "charge"):
        with pytest.raises(DefinitionError, match="is no task: decorate the function or the class itself with @task"):
            task_of(given)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_plain_functions_run_in_threads() -> None:
    @task
    def square(ctx: Any, number: int) -> int:
        return number * number

    assert (square.in_thread, square(None, 3), square.kind) == (True, 9, "square")
    assert isinstance(square, Task)
    assert isinstance(square.options(queue="q"), type(square))
    assert not charge.in_thread


def test_options_of_a_task_and_their_defaults() -> None:
    assert (charge.cancellable, charge.streaming, charge.version, charge.heartbeat_timeout) == (
        True,
        False,
        "1.0.0",
        None,
    )

    @task(heartbeat_timeout=5, cancellable=False, streaming=True, version="2.0.0")
    async def told(ctx: Any) -> None: ...

    assert (told.heartbeat_timeout, told.cancellable, told.streaming, told.version) == (
        timedelta(seconds=5),
        False,
        True,
        "2.0.0",
    )


def test_what_is_not_cancellable_is_left_alone() -> None:
    @task(cancellable=False)
    async def pay(ctx: Any) -> None: ...

    assert (charge.on_cancel, pay.on_cancel, pay.options(queue="q").on_cancel) == ("request", "abandon", "abandon")
    with pytest.raises(DefinitionError, match='pay: on_cancel="wait" cannot work, as the task is not cancellable'):
        pay.options(on_cancel="wait")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"heartbeat_timeout": 0}, "options of tick: heartbeat_timeout=0 has to be a positive time"),
        ({"version": " "}, "options of tick: version=' ' has to be a text that is not empty"),
    ],
)
def test_options_of_tasks_that_make_no_sense(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(DefinitionError, match=re.escape(reason)):
        task(**options)(tick.fn)


def test_arguments_as_contexts_show_them() -> None:
    assert tick.shown(*tick.decode_input(b"null")) is None
    assert greet.shown(*greet.decode_input(b'"me"')) == "me"

    @task
    async def two(ctx: Any, order: Order, *, express: bool = False) -> None: ...

    assert two.shown(*two.decode_input(b'{"order":{"id":"o"}}')) == {"order": Order("o"), "express": False}
    task(Resize)
    assert task_of(Resize).shown(("a.png",), {"width": 3}) == {"path": "a.png", "width": 3}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"name": " "}, "the name of synthetic is empty"),
        ({"kind": ""}, "the kind of synthetic is empty"),
        ({"version": ""}, "the version of synthetic is empty"),
        ({"tags": "shop"}, "tags='shop' is one string; write tags=['shop']"),
        ({"queue": ""}, "options of synthetic: queue='' has to be a text that is not empty"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(DefinitionError, match=re.escape(reason)):
        workflow(**options)(synthetic)


def test_nothing_is_remembered() -> None:
    first, second = task(charge.fn), task(charge.fn)
    assert first is not second
    assert first.kind == second.kind
