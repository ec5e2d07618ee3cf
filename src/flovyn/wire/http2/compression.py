"""Header compression without a dynamic table: what was coded once need not be coded again.

Nearly all headers of gRPC are the same for each call, and coding them was a quarter of what HTTP/2 costs. A dynamic
table makes the bytes of a header block depend on all blocks before it. So this side's encoder uses none, and asks the
peer's to use none either (SETTINGS_HEADER_TABLE_SIZE = 0); then the same headers always are the same bytes, and both
directions become a look-up. The blocks are some hundred bytes longer for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpack import Decoder, Encoder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hpack.struct import HeaderTuple

__all__ = ["BlockDecoder", "HeaderEncoder"]

_ENTRIES = 512
_LONGEST = 4096
_SECRET = (b"authorization", b"cookie")


class HeaderEncoder(Encoder):
    """Remembers the bytes of each header."""

    def __init__(self) -> None:
        super().__init__()
        Encoder.header_table_size.fset(self, 0)  # type: ignore[attr-defined]  # see the property below
        self._known: dict[tuple[bytes, bytes], bytes] = {}
        self._known_text: dict[tuple[str, str], bytes] = {}

    @property
    def header_table_size(self) -> int:
        """Zero, whatever the peer allows: an encoder may use less."""
        return 0

    @header_table_size.setter
    def header_table_size(self, value: int) -> None: ...

    def encode(self, headers: Iterable[Any], huffman: bool = False) -> bytes:  # noqa: ARG002
        """The block of `headers`. Never with Huffman's code, which is dear to decode for peers in Python."""
        known = self._known
        parts = [known.get(header) or self._learn(header) for header in headers]
        if self.header_table.resized:
            parts.insert(0, self._encode_table_size_change())
            self.header_table.resized = False
        return b"".join(parts)

    def block(self, headers: Iterable[tuple[str, str]]) -> bytes | None:
        """The block of headers in text; None if a change of the table, which it is none of, has to be told first."""
        if self.header_table.resized:
            return None
        known = self._known_text
        return b"".join([known.get(header) or self._learn_text(header) for header in headers])

    def _learn_text(self, header: tuple[str, str]) -> bytes:
        name, value = header
        encoded = self._learn((name.encode(), value.encode()))
        if len(encoded) <= _LONGEST:
            if len(self._known_text) >= _ENTRIES:
                self._known_text.clear()
            self._known_text[header] = encoded
        return encoded

    def _learn(self, header: tuple[bytes, bytes]) -> bytes:
        name, value = header
        encoded = self.add((name, value), sensitive=name in _SECRET)
        if len(encoded) <= _LONGEST:
            if len(self._known) >= _ENTRIES:
                self._known.clear()  # values that are different each time would fill it for good
            self._known[name, value] = encoded
        return encoded


class BlockDecoder(Decoder):
    """Remembers the headers of each block, once the peer has given up its dynamic table."""

    def __init__(self, max_header_list_size: int) -> None:
        super().__init__(max_header_list_size)
        self._known: dict[bytes, Iterable[HeaderTuple]] = {}

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        if self.header_table_size:
            return super().decode(data, raw)
        block = bytes(data)
        headers = self._known.get(block)
        if headers is None:
            headers = super().decode(block, raw)
            if len(block) <= _LONGEST and not self.header_table_size:
                if len(self._known) >= _ENTRIES:
                    self._known.clear()
                self._known[block] = headers
        return headers
