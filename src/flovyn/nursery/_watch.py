"""Being told of a cancellation without being a task that waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Callable

    from flovyn.nursery._scope import CancelScope

__all__ = ["Watch"]


@final
class Watch:
    """Stands in a scope as a task does, and calls back once when a cancellation reaches that place.

    Made by `CancelScope.watch`.

    Attributes:
        id: Its number; tasks and watches of a kernel are counted together, in the order in which they were made.
    """

    __slots__ = ("_callback", "_scope", "_told", "id")

    def __init__(self, number: int, callback: Callable[[], None]) -> None:
        self.id: int = number
        self._callback: Callable[[], None] | None = callback
        self._scope: CancelScope | None = None
        self._told = False

    @property
    def reached(self) -> bool:
        """Whether a cancellation has reached the place where it stands, told already or about to be."""
        return self._told or (self._scope is not None and self._scope.effectively_cancelled)

    def stop(self) -> None:
        """Call nothing from now on. A second call changes nothing."""
        self._callback = None
        scope, self._scope = self._scope, None
        if scope is not None:
            scope.forget(self)

    def move(self, scope: CancelScope) -> None:
        """Stand in a scope that has counted it among its members."""
        self._scope = scope

    def tell(self) -> None:
        """Call back, if the place is cancelled still; that was all that there is to do."""
        scope, callback = self._scope, self._callback
        if scope is not None and callback is not None and scope.effectively_cancelled:
            self.stop()
            self._told = True
            callback()
