"""What the generated coding functions share: varints, tags, and getting past what is not known.

The generated functions read one-byte lengths, tags and numbers by themselves, as nearly all are; whatever is longer
comes here. Running off the end of the data is left to show as IndexError: checking for it at each byte would cost more
than everything else.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "DOUBLE",
    "NUMBERS",
    "ZERO",
    "Defect",
    "double",
    "int32",
    "int64",
    "length",
    "merged",
    "prefixed",
    "put_entries",
    "read_entry",
    "read_int32",
    "read_int64",
    "read_varint",
    "skip",
    "tag",
    "varint",
]

M = TypeVar("M")

MAX_GROUP_DEPTH: Final = 100
"""How deeply groups may be nested; the limit that google's parsers have."""

DOUBLE: Final = struct.Struct("<d")
ZERO: Final = bytes(8)


class Defect(Exception):
    """The data is no message; the text says why."""


NUMBERS: Final = tuple(bytes((n,)) for n in range(128))
"""The numbers that fit one byte, as varints."""


def varint(n: int) -> bytes:
    """A number of up to 64 bits, without sign."""
    if 127 < n < 16384:
        return bytes((n & 127 | 128, n >> 7))
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def prefixed(tag: int) -> tuple[bytes, ...]:
    """The tag followed by a length, for each length that fits one byte."""
    key = varint(tag)
    return tuple(key + n for n in NUMBERS)


def int32(n: int) -> bytes:
    """A signed number of 32 bits. Negative ones take ten bytes, as if they had 64.

    Raises:
        OverflowError: It does not fit.
    """
    if -0x80000000 <= n <= 0x7FFFFFFF:
        return varint(n & 0xFFFFFFFFFFFFFFFF)
    raise OverflowError


def int64(n: int) -> bytes:
    """A signed number of 64 bits.

    Raises:
        OverflowError: It does not fit.
    """
    if -0x8000000000000000 <= n <= 0x7FFFFFFFFFFFFFFF:
        return varint(n & 0xFFFFFFFFFFFFFFFF)
    raise OverflowError


def double(n: float) -> bytes:
    """A floating-point number of 64 bits."""
    return DOUBLE.pack(n)


def put_entries(out: list[bytes], prefix: tuple[bytes, ...], entries: Mapping[str, str]) -> None:
    """Appends a map, each entry behind its tag. They are sorted, so that equal messages are equal bytes."""
    coded = [(key.encode(), value.encode()) for key, value in entries.items()]
    # Google's runtime puts a key behind the longer ones that begin with it. 0xff stands in no UTF-8, and is over all.
    for k, v in sorted(coded, key=lambda entry: entry[0] + b"\xff"):
        # Unlike the fields of a message, both parts of an entry are written even if they are empty.
        entry = b"\x0a" + varint(len(k)) + k + b"\x12" + varint(len(v)) + v
        size = len(entry)
        out.append(prefix[size] if size < 128 else prefix[0][:-1] + varint(size))
        out.append(entry)


def read_varint(d: bytes, p: int) -> tuple[int, int]:
    """The number at a place, and the place behind it. What goes beyond 64 bits is dropped, as everybody does.

    Raises:
        Defect: It takes more than ten bytes.
    """
    n = d[p]
    if n < 128:
        return n, p + 1
    c = d[p + 1]
    if c < 128:
        return n - 128 + (c << 7), p + 2
    n &= 127
    shift = 7
    while c > 127:
        n |= (c & 127) << shift
        shift += 7
        p += 1
        if shift > 63:
            raise Defect("a number of more than ten bytes")
        c = d[p + 1]
    return (n | c << shift) & 0xFFFFFFFFFFFFFFFF, p + 2


def read_int32(d: bytes, p: int) -> tuple[int, int]:
    """The signed number of 32 bits at a place, and the place behind it; what goes beyond 32 bits is dropped."""
    n, p = read_varint(d, p)
    return ((n & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000, p


def read_int64(d: bytes, p: int) -> tuple[int, int]:
    """The signed number of 64 bits at a place, and the place behind it."""
    n, p = read_varint(d, p)
    return (n ^ 0x8000000000000000) - 0x8000000000000000, p


def length(d: bytes, p: int) -> tuple[int, int]:
    """The length at a place, and the place behind it.

    Raises:
        Defect: It takes more than five bytes, or is over 2 GiB.
    """
    n, q = read_varint(d, p)
    if q - p > 5 or n > 0x7FFFFFFF:
        raise Defect("a length over 2 GiB")
    return n, q


def tag(d: bytes, p: int) -> tuple[int, int]:
    """The tag at a place, and the place behind it.

    Raises:
        Defect: It takes more than five bytes, or its field number is 0 or over 29 bits.
    """
    t, q = read_varint(d, p)
    if q - p > 5 or not 8 <= t <= 0xFFFFFFFF:
        raise Defect("a field number out of range")
    return t, q


def skip(d: bytes, p: int, t: int) -> int:
    """The place behind the field that begins at a place, whose tag has just been read.

    Raises:
        Defect: It is of no wire type, or a group that does not end properly.
    """
    open_groups: list[int] = []
    while True:
        kind = t & 7
        if kind == 0:
            _, p = read_varint(d, p)
        elif kind == 1:
            p += 8
        elif kind == 2:
            n, p = length(d, p)
            p += n
        elif kind == 3:
            open_groups.append(t >> 3)
            if len(open_groups) > MAX_GROUP_DEPTH:
                raise Defect("groups nested too deeply")
        elif kind == 4:
            if not open_groups or open_groups.pop() != t >> 3:
                raise Defect("the end of a group that did not begin")
        elif kind == 5:
            p += 4
        else:
            raise Defect("a wire type that does not exist")
        if not open_groups:
            return p
        t, p = tag(d, p)


def read_entry(d: bytes, p: int, e: int) -> tuple[str, str]:
    """The key and the value of the map entry between two places; what else it may have is dropped.

    Raises:
        Defect: It does not end where it should.
    """
    key = value = ""
    while p < e:
        t, p = tag(d, p)
        if t in {10, 18}:
            n, p = length(d, p)
            text = d[p : p + n].decode()
            p += n
            if t == 10:
                key = text
            else:
                value = text
        else:
            p = skip(d, p, t)
    if p != e:
        raise Defect("it ends within a map entry")
    return key, value


def merged(decode: Callable[[bytes, int, int], M], d: bytes, spans: list[int]) -> M:
    """The message whose parts stand between pairs of places: protobuf merges a message that comes more than once.

    To read the parts one after the other is to merge them, as that is how the wire format is defined.
    """
    whole = b"".join([d[begin:end] for begin, end in zip(spans[::2], spans[1::2], strict=True)])
    return decode(whole, 0, len(whole))
