"""The marker of a submission: what the activation behind it had seen, so that a replay sees just the same (rule 4)."""

from __future__ import annotations

from typing import Final

import msgspec

from flovyn.errors import MalformedMessage

__all__ = ["Marker"]

_MISSING: Final = "the marker of an activation cannot be read"


class Marker(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One activation's horizon.

    Attributes:
        id: A random id of the activation; salts the ids of what it starts.
        after: The end of the last submission that counts, as a sequence number; 0 for none.
        seen: The last event that was delivered, as a sequence number.
        at: The clock of the activation, epoch milliseconds.
        ops: The order in which operations were answered, where it is not the order of their calls.
        more: Operations were left over for the next activation.
        hold: Nothing of the program is in this submission: its code and its history disagree.
    """

    id: str
    after: int
    seen: int
    at: int
    ops: tuple[int, ...] = ()
    more: bool = False
    hold: bool = False

    def encode(self) -> bytes:
        """As the JSON result of the operation `$flovyn.activation`."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, data: bytes | msgspec.Raw) -> Marker:
        """The reverse of `encode`.

        Raises:
            MalformedMessage: This is no marker.
        """
        try:
            return _decoder.decode(data)
        except msgspec.DecodeError as error:
            raise MalformedMessage(f"{_MISSING}: {error}") from error


_decoder = msgspec.json.Decoder(Marker)
