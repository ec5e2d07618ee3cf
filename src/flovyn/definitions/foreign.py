"""Definitions without code: what another program, perhaps in another language, registers under a kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, overload

from flovyn.definitions.options import check_text
from flovyn.definitions.tasks import Task
from flovyn.definitions.workflows import Workflow
from flovyn.errors import DefinitionError, PayloadError
from flovyn.serde import codec_for

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from flovyn.serde import Codec

__all__ = ["task_by_kind", "workflow_by_kind"]

R = TypeVar("R")

_plain = codec_for(Any)


class ForeignSignature:
    """Payloads of something whose parameters are not known: what the caller gives is written as it is.

    Args:
        where: What to call it in messages.
        result: The type that its result is read as.

    Raises:
        DefinitionError: Results of that type cannot be read.
    """

    __slots__ = ("output", "where")

    has_code: bool = False

    def __init__(self, where: str, result: Any) -> None:
        self.where: str = where
        try:
            self.output: Codec = codec_for(result)
        except PayloadError as error:
            msg = f"{where}: the result: {error.message}"
            raise DefinitionError(msg) from None

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        if len(args) + bool(kwargs) > 1:
            msg = (
                f"{self.where} takes one payload: give one positional argument, which is written as it is, "
                "or arguments by name, which are written as one object"
            )
            raise DefinitionError(msg)
        return _plain.encode(args[0] if args else kwargs or None)

    def decode(self, data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (_plain.decode(data),), {}

    def input_schema(self) -> bytes:
        return _plain.schema()


def _without_code(where: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    def call(*_args: object, **_kwargs: object) -> NoReturn:
        msg = f"{where} has no code here: schedule or start it; whoever defines it runs it"
        raise DefinitionError(msg)

    return call


@overload
def task_by_kind(kind: str, *, result: type[R]) -> Task[..., R]: ...


@overload
def task_by_kind(kind: str, *, result: Any = Any) -> Task[..., Any]: ...


def task_by_kind(kind: str, *, result: Any = Any) -> Task[..., Any]:
    """A task that another program defines, to be scheduled by its kind.

    It can be scheduled, with options, wherever a task can; a worker cannot run it.

    Args:
        kind: The kind under which its workers register it.
        result: The type that its result is read as; plain JSON data if left out.

    Returns:
        A definition that takes one positional argument, written as it is, or arguments by name, written as an object.

    Raises:
        DefinitionError: The kind is empty, or results of that type cannot be read.

    Example:
        >>> resize = task_by_kind("image.resize", result=bytes)
        >>> resize.encode_input((), {"width": 100, "height": 50})
        b'{"width":100,"height":50}'
    """
    where = f"the task kind {kind!r}"
    check_text(where, "kind", kind)
    signature = ForeignSignature(where, result)
    return Task(fn=_without_code(where), kind=kind, name=kind, description="", tags=(), signature=signature)


@overload
def workflow_by_kind(kind: str, *, result: type[R]) -> Workflow[..., R]: ...


@overload
def workflow_by_kind(kind: str, *, result: Any = Any) -> Workflow[..., Any]: ...


def workflow_by_kind(kind: str, *, result: Any = Any) -> Workflow[..., Any]:
    """A workflow that another program defines, to be started by its kind.

    It can be started by a client or scheduled as a child, with options; a worker cannot run it.

    Args:
        kind: The kind under which its workers register it.
        result: The type that its result is read as; plain JSON data if left out.

    Returns:
        A definition that takes one positional argument, written as it is, or arguments by name, written as an object.

    Raises:
        DefinitionError: The kind is empty, or results of that type cannot be read.

    Example:
        >>> settle = workflow_by_kind("billing.settle", result=int)
        >>> settle.decode_output(b"7")
        7
    """
    where = f"the workflow kind {kind!r}"
    check_text(where, "kind", kind)
    signature = ForeignSignature(where, result)
    return Workflow(
        fn=_without_code(where), kind=kind, name=kind, description="", tags=(), signature=signature, version=""
    )
