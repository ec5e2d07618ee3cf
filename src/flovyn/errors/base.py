"""What all errors have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "FlovynError",
]


E = TypeVar("E", bound="FlovynError")


class FlovynError(Exception):
    """Base of everything this package raises on purpose.

    Its members can be pickled, and keep their attributes; of their causes, those that are of this package.

    Args:
        message: What was wrong, with which value, and what to do about it.

    Example:
        >>> from flovyn import NotFound, TaskFailed
        >>> NotFound("workflow 7 is unknown")
        NotFound('workflow 7 is unknown')
        >>> TaskFailed("ValueError: no", task_id="t-1", kind="charge", error_type="ValueError", attempts=3)
        TaskFailed('ValueError: no', task_id='t-1', kind='charge', retryable=True, error_type='ValueError', attempts=3)
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __repr__(self) -> str:
        # Not `self.message`: a subclass of a user may be made without this constructor.
        told = [repr(vars(self).get("message", str(self)))]
        told += [
            f"{key}={value!r}" for key, value in vars(self).items() if key not in _UNTOLD and value not in _NOTHING
        ]
        return f"{type(self).__name__}({', '.join(told)})"

    def __reduce__(self) -> tuple[Callable[..., FlovynError], tuple[Any, ...]]:
        # Not by the constructor, whose keyword arguments the standard way forgets; and causes are forgotten by it, too.
        cause = self.__cause__ if isinstance(self.__cause__, FlovynError) else None
        return _restored, (type(self), self.args, vars(self), cause)


_UNTOLD = frozenset({"message", "traceback", "__notes__"})
_NOTHING: Sequence[object] = (None, "", ())


def _restored(kind: type[E], args: tuple[Any, ...], state: dict[str, Any], cause: FlovynError | None) -> E:
    error = kind.__new__(kind, *args)
    vars(error).update(state)
    error.__cause__ = cause
    return error
