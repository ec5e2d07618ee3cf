"""Large payloads, kept elsewhere: what is sent is where to find them."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import anyio.to_thread

from flovyn.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DirectoryStore", "OffloadCodec", "PayloadStore"]

_KEY: Final = re.compile("[0-9a-f]{64}")


class PayloadStore(Protocol):
    """Keeps payloads by key, for as long as a history refers to them: nothing here ever deletes one.

    A key is the SHA-256 of the bytes, in hexadecimal digits: whatever is put under a key twice is the same.
    """

    async def put(self, key: str, data: bytes) -> None:
        """Keep some bytes. When this returns they must be safe: the history that refers to them is written next."""
        ...

    async def get(self, key: str) -> bytes:
        """The bytes of a key; raises any exception if they are not there."""
        ...


class OffloadCodec:
    """Puts large payloads into a store, and sends their key in their place.

    It is the last of the codecs: what it puts away has gone through the others, and is encrypted if one encrypts.

    Args:
        store: Where they are kept; every client and worker has to reach it.
        larger_than: Payloads up to so many bytes are left as they are.

    Example:
        >>> from flovyn.serde.codecs import DirectoryStore, OffloadCodec
        >>> OffloadCodec(DirectoryStore("payloads"), larger_than=1_000_000).name
        'offload'
    """

    name: str = "offload"

    def __init__(self, store: PayloadStore, *, larger_than: int = 128 * 1024) -> None:
        self._store = store
        self._larger_than = larger_than

    async def encode(self, data: bytes) -> tuple[bytes, Mapping[str, str]] | None:
        """Put a payload away, if it is large."""
        if len(data) <= self._larger_than:
            return None
        key = hashlib.sha256(data).hexdigest()
        await self._store.put(key, data)
        return b"", {"sha256": key}

    async def decode(self, data: bytes, metadata: Mapping[str, str]) -> bytes:  # noqa: ARG002 - as all codecs have it
        """Fetch a payload.

        Raises:
            CodecError: What the store has is not what was put away.
        """
        key = metadata.get("sha256", "")
        if _KEY.fullmatch(key) is None:  # it comes from outside, and a store may take it for a path
            raise CodecError(f"an offloaded payload has the key {key!r}, which is none", codec=self.name)
        stored = await self._store.get(key)
        if hashlib.sha256(stored).hexdigest() != key:
            raise CodecError(f"what the store has under {key} is not what was put there", codec=self.name)
        return stored


class DirectoryStore:
    """Keeps payloads as files of a directory, which may be one that machines share.

    Args:
        path: The directory; it is made with the first payload.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)

    def __repr__(self) -> str:
        return f"DirectoryStore({str(self._path)!r})"

    async def put(self, key: str, data: bytes) -> None:
        """Write a file, unless it is there; it is on the disk, whole, when this returns."""
        await anyio.to_thread.run_sync(self._write, key, data)

    async def get(self, key: str) -> bytes:
        """Read a file; raises `FileNotFoundError` if there is none."""
        return await anyio.to_thread.run_sync(self._file(key).read_bytes)

    def _file(self, key: str) -> Path:
        # Not all in one directory: some file systems are slow with many files in one.
        return self._path / key[:2] / key

    def _write(self, key: str, data: bytes) -> None:
        file = self._file(key)
        if file.exists():
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        # Under a name of its own until it is whole, so that nobody ever reads half of it.
        unfinished = file.with_name(f"{key}.{secrets.token_hex(4)}")
        try:
            with unfinished.open("xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            unfinished.replace(file)
        finally:
            unfinished.unlink(missing_ok=True)
        _sync_directory(file.parent)
        _sync_directory(self._path)


def _sync_directory(path: Path) -> None:
    """The file's name has to be as safe as what is in it."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows cannot open one, and needs not
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
