"""The attempts at the body of one `ctx.run`."""

from __future__ import annotations

import inspect
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import anyio

from flovyn.definitions import Effect
from flovyn.replay.records import Failure, Value
from flovyn.serde.envelope import ErrorInfo
from flovyn.worker.groups import is_own_failure

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from flovyn.replay import Operation

__all__ = ["answer"]

logger: logging.Logger = logging.getLogger("flovyn.worker")


async def answer(operation: Operation) -> Value | Failure:
    """Run the body of an operation until it succeeds, or its policy has no further attempt.

    A cancellation from outside ends an attempt, or the wait before the next one, and is raised.
    """
    effect = _effect_of(operation.body)
    retry, limit = (None, None) if effect is None else (effect.retry, effect.start_to_close)
    attempt = 1
    while True:
        try:
            value = await _attempt(operation.body, limit)
        except BaseException as error:  # noqa: ASYNC103, ASYNC104, BLE001 - it is raised again below
            failure = error
        else:
            return _written(operation, value)
        try:
            if not await is_own_failure(failure):
                raise failure
            if retry is None or not retry.allows(attempt, failure):
                return Failure(ErrorInfo.from_exception(failure))
            wait = retry.delay(attempt)
            text = "operation %s: attempt %d of %d failed, the next one begins in %.2f s: %r"
            logger.info(text, operation.name, attempt, retry.max_attempts, wait, failure)
        finally:
            del failure  # or it would hold this frame, which holds it
        await anyio.sleep(wait)
        attempt += 1


def _effect_of(body: Callable[[], Any]) -> Effect[..., Any] | None:
    function = body.func if isinstance(body, partial) else body
    return cast("Effect[..., Any]", function) if isinstance(function, Effect) else None


async def _attempt(body: Callable[[], Any], limit: timedelta | None) -> Any:
    if limit is None:
        return await _result(body)
    seconds = limit.total_seconds()
    with anyio.CancelScope(deadline=anyio.current_time() + seconds):
        return await _result(body)
    raise TimeoutError(f"the attempt took longer than its start_to_close of {seconds:g} s")


async def _result(body: Callable[[], Any]) -> Any:
    result = body()
    return await result if inspect.isawaitable(result) else result


def _written(operation: Operation, value: Any) -> Value | Failure:
    try:
        return Value(operation.encode(value))
    except (Exception, SystemExit) as unwritable:  # noqa: BLE001 - a PayloadError, or whatever the value's own code raises
        return Failure(ErrorInfo.from_exception(unwritable))
