"""What becomes of payloads between a program and the wire: compressed, encrypted, put away elsewhere.

`connect(codecs=[...])` applies them for a client and its workers: in that order to what is sent, backwards to what is
read. Whatever tools and servers there are between two programs see JSON still.
"""

from __future__ import annotations

from flovyn.serde.chain import CodecChain, PayloadCodec
from flovyn.serde.codecs.compression import ZlibCodec
from flovyn.serde.codecs.encryption import AesGcmCodec
from flovyn.serde.codecs.offloading import DirectoryStore, OffloadCodec, PayloadStore

__all__ = [
    "AesGcmCodec",
    "CodecChain",
    "DirectoryStore",
    "OffloadCodec",
    "PayloadCodec",
    "PayloadStore",
    "ZlibCodec",
]
