"""Encryption, with the package `cryptography`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from flovyn.errors import CodecError, ConfigurationError
from flovyn.serde.codecs.threads import off_the_loop

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["AesGcmCodec"]

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class AesGcmCodec:
    """Encrypts payloads with AES-256-GCM, so that nobody on the way can read or change them.

    What is written is encrypted with the current key and bears its id, which is no secret; what is read is decrypted
    with the key that it names. To rotate, add the new key on every side first, then make it the current one, and keep
    the old one for as long as histories are kept that were written with it. A key is good for some 4 000 000 000
    payloads, as the nonces are random.

    It needs the extra ``flovyn[encryption]``.

    Args:
        keys: Every key that is still needed, by its id: 32 random bytes each (`generate_key` makes such).
        current: The id of the key to encrypt with.

    Raises:
        ConfigurationError: There is no current key, one is not 32 bytes long, or `cryptography` is not installed.

    Example:
        >>> codec = AesGcmCodec({"2026-01": AesGcmCodec.generate_key()}, current="2026-01")
        >>> codec
        <AesGcmCodec keys=2026-01 current=2026-01>
    """

    name: str = "aes-gcm"

    def __init__(self, keys: Mapping[str, bytes], *, current: str) -> None:
        if current not in keys:
            raise ConfigurationError(
                f"the key {current!r} is to be the current one, but is not among the keys: {', '.join(keys) or 'none'}"
            )
        for key_id, key in keys.items():
            if len(key) != _KEY_BYTES:
                raise ConfigurationError(
                    f"the key {key_id!r} has {len(key)} bytes; AES-256 takes {_KEY_BYTES} random ones, as "
                    "AesGcmCodec.generate_key() makes them"
                )
        cipher = _cipher()
        self._ciphers = {key_id: cipher(key) for key_id, key in keys.items()}
        self._current = current

    def __repr__(self) -> str:
        return f"<AesGcmCodec keys={','.join(self._ciphers)} current={self._current}>"

    @staticmethod
    def generate_key() -> bytes:
        """A new random key, to be kept where secrets are kept."""
        return os.urandom(_KEY_BYTES)

    async def encode(self, data: bytes) -> tuple[bytes, Mapping[str, str]] | None:
        """Encrypt a payload with the current key."""
        nonce, key_id = os.urandom(_NONCE_BYTES), self._current
        cipher = self._ciphers[key_id]
        encrypted = await off_the_loop(len(data), cipher.encrypt, nonce, data, key_id.encode())
        return nonce + encrypted, {"key": key_id}

    async def decode(self, data: bytes, metadata: Mapping[str, str]) -> bytes:
        """Decrypt a payload with the key that it names.

        Raises:
            CodecError: That key is not here, or is another one, or the payload was changed.
        """
        from cryptography.exceptions import InvalidTag

        key_id = metadata.get("key", "")
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise CodecError(
                f"the payload was encrypted with the key {key_id!r}; the keys here are: {', '.join(self._ciphers)}",
                codec=self.name,
                key=key_id,
            )
        nonce, encrypted = data[:_NONCE_BYTES], data[_NONCE_BYTES:]
        try:
            return await off_the_loop(len(data), cipher.decrypt, nonce, encrypted, key_id.encode())
        except (InvalidTag, ValueError):
            raise CodecError(
                f"the payload cannot be decrypted: it was changed, or its key {key_id!r} was another one than the key "
                "of that id is here",
                codec=self.name,
                key=key_id,
            ) from None


def _cipher() -> type[AESGCM]:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise ConfigurationError("AesGcmCodec needs cryptography: pip install 'flovyn[encryption]'") from None
    return AESGCM
