"""Metadata as it is shown to people who call and answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["readable_metadata"]

_RESERVED = frozenset({"content-type", "te", "user-agent"})


def readable_metadata(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What came beside what HTTP/2 and gRPC need for themselves.

    The values of a name that is repeated are joined with commas, as gRPC allows. Binary values (names in ``-bin``) stay
    in the base64 of the wire.

    Example:
        >>> readable_metadata([(":status", "200"), ("grpc-status", "0"), ("a", "1"), ("a", "2")])
        {'a': '1,2'}
    """
    metadata: dict[str, str] = {}
    for name, value in headers:
        if name[:1] != ":" and name not in _RESERVED and not name.startswith("grpc-"):
            metadata[name] = f"{metadata[name]},{value}" if name in metadata else value
    return metadata
