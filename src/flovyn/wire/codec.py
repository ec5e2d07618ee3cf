"""Messages as bytes, the way grpclib asks for them."""

from __future__ import annotations

from typing import Any

from grpclib.encoding.base import CodecBase

from flovyn.wire import coding

__all__ = ["Codec"]


class Codec(CodecBase):
    """The compiled coding functions behind grpclib's codec interface; ``bytes`` passes through as it is."""

    @property
    def __content_subtype__(self) -> str:
        return "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        if message_type is bytes:
            return bytes(message)
        return coding.encode(message)

    def decode(self, data: bytes, message_type: Any) -> Any:
        if message_type is bytes:
            return data
        return coding.decode(message_type, data)
