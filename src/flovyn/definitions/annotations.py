"""Annotations as types, wherever the function stands."""

from __future__ import annotations

import inspect
import sys
from types import NoneType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Never, NoReturn, get_type_hints

from flovyn.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["names_of_caller", "read_annotation"]


def names_of_caller(depth: int) -> Mapping[str, Any]:
    """The local names of a calling frame, for types that are defined inside a function.

    Args:
        depth: How many frames above the caller of this function.
    """
    frame = inspect.currentframe()
    for _ in range(depth + 1):
        frame = frame and frame.f_back
    return {} if frame is None else frame.f_locals


def read_annotation(fn: Callable[..., Any], name: str, names: Mapping[str, Any], where: str) -> Any:
    """The type of one parameter, or of the result under the name ``return``.

    Each is read by itself, so that those that do not matter (the context's) need not be known at run time.

    Raises:
        DefinitionError: The annotation names something that does not exist when the module is imported.
    """
    annotation = _annotations(fn).get(name, Any)
    try:
        hints = get_type_hints(
            SimpleNamespace(__annotations__={"it": annotation}),
            globalns=fn.__globals__,
            localns=names,
            include_extras=True,
        )
    except NameError as error:
        what = "result" if name == "return" else f"parameter `{name}`"
        msg = (
            f"{where}: the type of the {what} of {fn.__qualname__} is not known here: {error}. It has to be imported "
            "(not only under TYPE_CHECKING) or defined before the function, as payloads are read by it"
        )
        raise DefinitionError(msg) from None
    type_ = hints["it"]
    return NoneType if type_ in (Never, NoReturn) else type_


def _annotations(fn: Callable[..., Any]) -> Mapping[str, Any]:
    if sys.version_info >= (3, 14):
        import annotationlib

        # Names that are not known yet stay references, which only matter if somebody asks for them.
        return annotationlib.get_annotations(fn, format=annotationlib.Format.FORWARDREF)
    return fn.__annotations__
