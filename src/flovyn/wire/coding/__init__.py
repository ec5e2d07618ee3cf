"""Messages to bytes and back, by functions compiled from the protocol.

The bytes are those of protobuf's deterministic serialisation: fields in order of their numbers, map entries sorted by
key, then whatever the message had that this version does not know.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, TypeVar

from flovyn.errors import MalformedMessage, UsageError
from flovyn.wire.coding.faults import first_fault
from flovyn.wire.coding.generated import DECODERS, ENCODERS
from flovyn.wire.coding.primitives import Defect

if TYPE_CHECKING:
    import betterproto2

__all__ = ["decode", "encode"]

M = TypeVar("M")


def encode(message: betterproto2.Message) -> bytes:
    r"""The message as bytes.

    Example:
        >>> from flovyn.wire.messages.flovyn import v1 as pb
        >>> encode(pb.GetEventsRequest(workflow_execution_id="w-1"))
        b'\n\x03w-1'

    Raises:
        UsageError: A field has a value of the wrong type or out of range, or two members of a oneof are set.
    """
    kind = type(message)
    encoder = ENCODERS.get(kind)
    if encoder is None:
        raise UsageError(f"{kind.__qualname__} is not a message of the protocol")
    try:
        return encoder(message)
    except (AttributeError, TypeError, ValueError, OverflowError, struct.error) as error:
        # The encoders check nothing that Python notices by itself; only now is there a reason to look closely.
        fault = first_fault(message)
        if fault is None:
            raise
        raise UsageError(fault) from error


def decode(cls: type[M], data: bytes | bytearray | memoryview) -> M:
    r"""The message of that class that the bytes are. Fields that this version does not know are kept.

    Example:
        >>> from flovyn.wire.messages.flovyn import v1 as pb
        >>> decode(pb.GetEventsRequest, b"\n\x03w-1").workflow_execution_id
        'w-1'

    Raises:
        MalformedMessage: The bytes are no such message: they are cut off, text in them is not UTF-8, or the like.
        UsageError: There is no such message in the protocol.
    """
    decoder = DECODERS.get(cls)
    if decoder is None:
        raise UsageError(f"{cls.__qualname__} is not a message of the protocol")
    if type(data) is not bytes:
        data = bytes(data)
    try:
        message: M = decoder(data, 0, len(data))
    except (IndexError, struct.error):
        raise _malformed(cls, "it ends within a field") from None
    except UnicodeDecodeError:
        raise _malformed(cls, "text in it is not UTF-8") from None
    except Defect as defect:
        raise _malformed(cls, str(defect)) from None
    return message


def _malformed(cls: type, why: str) -> MalformedMessage:
    return MalformedMessage(f"not a valid {cls.__name__}: {why}")
