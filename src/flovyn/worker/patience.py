"""Calls that a server which is well answers soon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio

from flovyn.errors import ConnectionLost

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["ANSWER_WITHIN", "NoAnswer", "answered"]

T = TypeVar("T")

ANSWER_WITHIN: Final = 10.0
"""Seconds within which a server answers a registration and a heartbeat, and a poll after the time that it was given."""


class NoAnswer(ConnectionLost):
    """The connection lives, as far as anybody knows, and still there is no answer: it is not to be used any longer."""


async def answered(call: Coroutine[Any, Any, T], what: str, seconds: float) -> T:
    """The answer to a call.

    Raises:
        NoAnswer: There is none in that time.
    """
    with anyio.move_on_after(seconds):
        return await call
    raise NoAnswer(f"the server has not answered {what} within {seconds:g} s")
