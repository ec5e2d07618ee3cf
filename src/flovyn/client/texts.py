"""Error texts as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flovyn.serde.envelope import parse_error

if TYPE_CHECKING:
    from flovyn.serde.chain import CodecChain

__all__ = ["told"]


async def told(text: str | None, codecs: CodecChain) -> str | None:
    """An error text, decoded and without the line that is for SDKs; None stays None.

    Raises:
        CodecError: It cannot be decoded.
    """
    return None if text is None else str(parse_error(await codecs.decode_text(text)))
