"""Promises: values that somebody outside gives the workflow, once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, final

from flovyn.definitions import Promise
from flovyn.definitions.durations import whole_milliseconds, whole_seconds
from flovyn.errors import PayloadError
from flovyn.replay.waits import waits_for_promise
from flovyn.workflow.failures import promise_error
from flovyn.workflow.waiting import begin, enter, settled

if TYPE_CHECKING:
    from collections.abc import Generator
    from datetime import timedelta

    from flovyn.replay import Execution
    from flovyn.replay.promises import PromiseRecord
    from flovyn.serde import Codec

__all__ = ["PromiseHandle", "create_promise"]

T = TypeVar("T")


@final
class PromiseHandle(Generic[T]):
    """A promise that exists on the server, to be waited for; `ctx.create_promise` makes these.

    `await handle` is `await handle.wait()`.
    """

    __slots__ = ("_codec", "_execution", "_record")

    def __init__(self, execution: Execution, codec: Codec, record: PromiseRecord) -> None:
        self._execution = execution
        self._codec = codec
        self._record = record

    def __repr__(self) -> str:
        return f"<PromiseHandle {self.name!r}>"

    @property
    def name(self) -> str:
        """Its name in this workflow."""
        return self._record.name

    @property
    def key(self) -> str:
        """The key by which anybody who knows it can resolve the promise."""
        return self._record.key

    def __await__(self) -> Generator[Any, Any, T]:
        return self.wait().__await__()

    async def wait(self) -> T:
        """Wait until somebody outside resolves it; as often as you like. Cancelling the wait leaves it as it is.

        Raises:
            PayloadError: What it was resolved with does not fit the promise's type.
            PromiseRejected: Somebody has rejected it.
            PromiseTimeout: Nobody has resolved it in time.
        """
        execution, record = self._execution, self._record
        await enter(execution, "wait for a promise")
        settlement = execution.promises.settlement(record)
        if settlement.event is not None:
            await execution.kernel.checkpoint()
        event = await settled(execution, settlement, waits_for_promise(record.name), _always)
        if event.type != "PROMISE_RESOLVED":
            raise promise_error(event, record.name)
        try:
            value: T = self._codec.decode(bytes(event.data.value))
        except PayloadError as error:
            raise PayloadError(f"promise {record.name!r}: {error.message}", path=error.path) from None
        return value


def create_promise(
    execution: Execution,
    promise: Promise[T] | str,
    *,
    expires_after: timedelta | None,
    idempotency_key: str | None,
    idempotency_key_ttl: timedelta | None,
) -> PromiseHandle[T]:
    """Create a promise, or find the one of that name.

    Raises:
        PayloadError: Values of the promise's type cannot be read.
    """
    begin(execution, "create a promise")
    typed: Promise[T] = Promise(promise) if isinstance(promise, str) else promise
    codec = typed.codec  # a type that cannot be read is told here, not when somebody has resolved it
    record = execution.promises.create(
        typed.name,
        timeout_ms=whole_milliseconds(expires_after),
        idempotency_key=idempotency_key,
        idempotency_key_ttl_seconds=whole_seconds(idempotency_key_ttl),
    )
    return PromiseHandle(execution, codec, record)


def _always() -> bool:
    return True
