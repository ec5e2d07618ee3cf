"""What a caller asks for by metadata, beside what the platform's messages can say."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from flovyn.errors import InvalidArgument
from flovyn.server.shell import CLAIM_METADATA, Claimed

if TYPE_CHECKING:
    from flovyn.server.acceptor import Call
    from flovyn.server.engine import Caller, Poller
    from flovyn.server.shell import Shell, Source

__all__ = ["number", "work"]


class Fenced(Claimed, Protocol):
    """A piece of work with the token that is shown with every call for it."""

    @property
    def token(self) -> str:
        """The token."""
        ...


T = TypeVar("T", bound=Fenced)

_MORE: Final = "flovyn-more"
"""The metadata by which a poll is asked for so many further pieces of work, if there are."""


def number(call: Call, name: str) -> int:
    """A number that is given as metadata; 0 if it is left out.

    Raises:
        InvalidArgument: It is none.
    """
    value = call.metadata.get(name, "0")
    if value.isdecimal() and value.isascii() and len(value) < 10:
        return int(value)
    raise InvalidArgument(f"{name} is a number, not {value!r}")


async def work(shell: Shell, call: Call, caller: Caller, poller: Poller, seconds: int, source: Source[T]) -> list[T]:
    """Wait for as much work as a poll asks for. The reply tells the claim of the first piece.

    What is not delivered is given back.

    Raises:
        InvalidArgument: What it asks for is no number.
    """
    claimed = await shell.poll(caller, poller, seconds, source, at_most=1 + number(call, _MORE))
    if claimed:
        call.reply_metadata[CLAIM_METADATA] = claimed[0].token
        call.undelivered = partial(shell.take_back, source, claimed)
    return claimed
