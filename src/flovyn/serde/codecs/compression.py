"""Compression, with what the standard library has."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from flovyn.errors import CodecError, ConfigurationError
from flovyn.serde.codecs.threads import off_the_loop

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ZlibCodec"]

_MIB: Final = 1024 * 1024
_USUAL_RATIO: Final = 5


class ZlibCodec:
    """Makes payloads smaller; leaves those that are small, or do not get smaller.

    What is encrypted does not compress, so this comes before a codec that encrypts.

    Args:
        level: From 1, fastest, to 9, smallest.
        larger_than: Payloads up to so many bytes are left as they are.
        largest: No payload becomes larger than so many bytes when it is decoded: a few compressed bytes can stand for
            many gigabytes.

    Raises:
        ConfigurationError: The level is none.

    Example:
        >>> from flovyn.serde.codecs import ZlibCodec
        >>> ZlibCodec(larger_than=4096).name
        'zlib'
    """

    name: str = "zlib"

    def __init__(self, *, level: int = 6, larger_than: int = 1024, largest: int = 64 * _MIB) -> None:
        if not 1 <= level <= 9:
            raise ConfigurationError(f"level must be from 1 to 9, not {level!r}")
        self._level = level
        self._larger_than = larger_than
        self._largest = largest

    async def encode(self, data: bytes) -> tuple[bytes, Mapping[str, str]] | None:
        """Compress a payload, if that is worth it."""
        if len(data) <= self._larger_than:
            return None
        compressed = await off_the_loop(len(data), zlib.compress, data, self._level)
        # It travels as base64, which makes four bytes of three.
        return (compressed, {}) if len(compressed) * 4 < len(data) * 3 else None

    async def decode(self, data: bytes, metadata: Mapping[str, str]) -> bytes:  # noqa: ARG002 - as all codecs have it
        """Decompress a payload.

        Raises:
            CodecError: It is no compressed payload, or it would become too large.
        """
        return await off_the_loop(len(data) * _USUAL_RATIO, self._decompress, data)

    def _decompress(self, data: bytes) -> bytes:
        decompressor = zlib.decompressobj()
        try:
            plain = decompressor.decompress(data, self._largest + 1)
        except zlib.error as error:
            raise CodecError(f"the payload cannot be decompressed: {error}", codec=self.name) from None
        if len(plain) > self._largest:
            raise CodecError(
                f"the payload becomes larger than {self._largest} bytes when it is decompressed; raise `largest` of "
                "the ZlibCodec if it may",
                codec=self.name,
            )
        if not decompressor.eof:
            raise CodecError("the payload cannot be decompressed: its end is missing", codec=self.name)
        return plain
