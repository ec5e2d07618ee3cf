"""Whether the program may ask for something durable just now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flovyn.errors import UsageError

if TYPE_CHECKING:
    from flovyn.nursery.kernel import Kernel

__all__ = ["Access"]


class Access:
    """The gate in front of every operation that records or consumes; `with access:` makes the run read-only.

    True while it is read-only: a query or the predicate of a condition is being asked.
    """

    __slots__ = ("_kernel", "_readers")

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._readers = 0

    def __enter__(self) -> None:
        self._readers += 1

    def __exit__(self, *_: object) -> None:
        self._readers -= 1

    def __bool__(self) -> bool:
        return self._readers > 0

    def denied(self, what: str) -> bool:
        """Whether a call has to come to nothing: the run was evicted, and code of it that still runs reaches nobody.

        Args:
            what: The call, as it goes on after "cannot".

        Raises:
            UsageError: The run is read-only, or the call comes from outside: from a body of `ctx.run`, say, where it
                would stand in no history.
        """
        if self._readers:
            raise UsageError(
                f"cannot {what} in a query or in the predicate of a condition: both only look at the workflow, and "
                "must not change what it does next; do it in the workflow itself"
            )
        kernel = self._kernel
        if kernel.dead:
            return True
        if not kernel.is_active:
            raise UsageError(
                f"cannot {what} here: a workflow's context works in the code of the workflow only, "
                "not in what `ctx.run` or a task runs"
            )
        return False
