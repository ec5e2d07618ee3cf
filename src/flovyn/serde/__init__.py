"""Payloads: what crosses the wire and stands in histories, as JSON.

`encode` and `decode` are the whole of it for most callers; a `Codec` is for those who read or write one type often.
"""

from __future__ import annotations

from flovyn.serde.codec import Codec, as_data, codec_for, decode, encode

__all__ = ["Codec", "as_data", "codec_for", "decode", "encode"]
