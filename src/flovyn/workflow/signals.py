"""Signals: messages from outside, kept in order until the workflow takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flovyn.definitions import Signal, checked_name
from flovyn.errors import PayloadError
from flovyn.replay.waits import SIGNAL
from flovyn.workflow.waiting import enter

if TYPE_CHECKING:
    from flovyn.replay import Execution

__all__ = ["drain", "pending", "wait"]


async def wait(execution: Execution, signal: Signal[Any] | str) -> Any:
    """Take the oldest signal of a name; the first that waits gets the first that comes."""
    await enter(execution, "wait for a signal")
    typed = _typed(signal)
    _ = typed.codec  # a type that cannot be read is told here, not when somebody has sent one
    name, kernel, signals = typed.name, execution.kernel, execution.signals
    data = signals.take(name)
    if data is None:
        task = kernel.current
        assert task is not None
        signals.wait(name, task)

        def forget() -> bool:
            signals.forget(name, task)
            return True

        execution.waits[task] = SIGNAL
        try:
            data = await kernel.wait_woken(forget)
        finally:
            del execution.waits[task]
    else:
        # It was taken, so no cancellation may come between; but no loop around a wait may go on unseen.
        await kernel.cancel_shielded_checkpoint()
    return _decode(typed, data)


def pending(execution: Execution, signal: Signal[Any] | str) -> int:
    """How many signals of a name nobody has taken."""
    return execution.signals.pending(_typed(signal).name)


def drain(execution: Execution, signal: Signal[Any] | str) -> list[Any]:
    """Take all signals of a name that have come."""
    typed = _typed(signal)
    return [_decode(typed, data) for data in execution.signals.drain(typed.name)]


def _typed(signal: Signal[Any] | str) -> Signal[Any]:
    return Signal(checked_name("signal", signal)) if isinstance(signal, str) else signal


def _decode(signal: Signal[Any], data: bytes) -> Any:
    try:
        return signal.codec.decode(data)
    except PayloadError as error:
        raise PayloadError(f"signal {signal.name!r}: {error.message}", path=error.path) from None
