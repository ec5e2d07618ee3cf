"""`ctx.run`: local effects that the host runs and history remembers."""

from __future__ import annotations

from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any, Never, NoReturn, get_type_hints
from weakref import WeakKeyDictionary

from flovyn import serde
from flovyn.definitions import Effect, checked_name
from flovyn.errors import DeterminismError, OperationFailed
from flovyn.replay.records import Failure, Value
from flovyn.workflow.waiting import enter

if TYPE_CHECKING:
    from collections.abc import Callable

    from flovyn.replay import Execution

__all__ = ["operate"]


async def operate(execution: Execution, name: str, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Have the host run a function, unless history has the answer, and wait for it."""
    checked_name("operation", name)
    await enter(execution, "run an operation")
    codec = serde.codec_for(_return_type(fn))  # a type that cannot be a payload is told here, before anything happens
    operation = execution.start_operation(name, partial(fn, *args, **kwargs), codec.encode)
    execution.waits[operation] = f"Waiting for operation {name} to complete"
    try:
        await execution.kernel.park(operation.abort)
    finally:
        del execution.waits[operation]
    match operation.answer:
        case Value(data):
            return codec.decode(data)
        case Failure(info):
            raise OperationFailed(str(info), name=name, error_type=info.type) from info.as_exception()
        case other:
            raise DeterminismError(f"operation {name!r} was resumed with {other!r}")  # pragma: no cover


# Weak: a function that stands inside a workflow holds that workflow's context, and goes with it.
_return_types: WeakKeyDictionary[FunctionType, Any] = WeakKeyDictionary()


def _return_type(fn: Callable[..., Any]) -> Any:
    target: Any = fn
    while isinstance(target, partial | Effect):
        target = target.func if isinstance(target, partial) else target.fn
    target = getattr(target, "__func__", target)
    if not isinstance(target, FunctionType):
        return _annotated_return(target)
    if target not in _return_types:
        _return_types[target] = _annotated_return(target)
    return _return_types[target]


def _annotated_return(target: Any) -> Any:
    try:
        type_ = get_type_hints(target, include_extras=True).get("return", Any)
    except Exception:  # noqa: BLE001 - an annotation that only a type checker can see, or a callable without any
        return Any
    return None if type_ in (Never, NoReturn) else type_
