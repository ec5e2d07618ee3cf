"""Codecs one after the other, and how an encoded payload stands where a plain one would."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from flovyn.errors import CodecError, ConfigurationError
from flovyn.serde.envelope import parse_error
from flovyn.serde.reserved import Encoded, body_of, wrap

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["CodecChain", "PayloadCodec"]

_NAME: Final = "codec"
"""The key of a codec's own name, beside what it wants to be told for decoding."""

_OPENING: Final = "[flovyn:encoded "
_CLOSING: Final = "]"
# With one literal before the fork this is thirty times as fast as with two alternatives.
_may_be_encoded: Final = re.compile(rb'flovyn(?:"|:encoded )').search


class PayloadCodec(Protocol):
    """One step between a payload and what is sent of it. Both ways may wait, for a key or for a store.

    Example:
        ```python
        class Reversed:
            name = "reversed"

            async def encode(self, data: bytes) -> tuple[bytes, Mapping[str, str]] | None:
                return data[::-1], {}

            async def decode(self, data: bytes, metadata: Mapping[str, str]) -> bytes:
                return data[::-1]
        ```
    """

    @property
    def name(self) -> str:
        """How encoded payloads name the codec; it has to stay the same for as long as one of them is kept."""
        ...

    async def encode(self, data: bytes) -> tuple[bytes, Mapping[str, str]] | None:
        """Encode a payload.

        Returns:
            What it becomes, and what `decode` needs to know, such as the id of a key: it is kept beside it, in plain
            text. None to leave the payload as it is.
        """
        ...

    async def decode(self, data: bytes, metadata: Mapping[str, str]) -> bytes:
        """The reverse; `metadata` is what `encode` gave."""
        ...


class _EncodedText(msgspec.Struct, frozen=True, omit_defaults=True):
    by: list[dict[str, str]]
    data: bytes = b""
    # What a server has to know of an error, to try again or not.
    retryable: bool = True


_decode_text: Final = msgspec.json.Decoder(_EncodedText).decode


class CodecChain:
    """Codecs in a row: what is encoded goes through them in order, what is decoded backwards.

    Each payload says by which codecs it was encoded, so a codec may be added or taken out while payloads of before are
    around: those that are read need only be somewhere in the chain.

    Args:
        codecs: The codecs. Without any, nothing is encoded, and whatever is found encoded is an error.

    Raises:
        ConfigurationError: Two have one name, or one has none.

    Example:
        >>> CodecChain([]).names
        ()
    """

    __slots__ = ("_codecs",)

    def __init__(self, codecs: Iterable[PayloadCodec] = ()) -> None:
        self._codecs: dict[str, PayloadCodec] = {}
        for codec in codecs:
            if not codec.name:
                raise ConfigurationError(f"the codec {codec!r} has an empty name, by which nothing could be decoded")
            if codec.name in self._codecs:
                raise ConfigurationError(f"two codecs have the name {codec.name!r}: nobody could tell them apart")
            self._codecs[codec.name] = codec

    def __repr__(self) -> str:
        return f"<CodecChain {', '.join(self._codecs) or 'empty'}>"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the codecs, in order."""
        return tuple(self._codecs)

    def may_concern(self, data: bytes) -> bool:
        """Whether there may be something encoded in some bytes; quickly told, and never wrongly denied."""
        return _may_be_encoded(data) is not None

    @staticmethod
    def is_encoded(payload: bytes | str) -> bool:
        """Whether a payload, or a text, is one that a chain has encoded.

        Example:
            >>> CodecChain.is_encoded(b'{"$flovyn":{"v":1,"encoded":{"by":[{"codec":"zlib"}],"data":""}}}')
            True
        """
        return _is_encoded(payload) if isinstance(payload, bytes) else _text_of(payload) is not None

    # --- payloads ---------------------------------------------------------------------------

    async def encode(self, data: bytes) -> bytes:
        """Encode a payload.

        Args:
            data: JSON; no bytes at all stay none.

        Returns:
            JSON: an object that says by which codecs it was encoded, or the payload itself if all of them left it.

        Raises:
            CodecError: A codec failed.
        """
        if not data:
            return data
        encoded = await self._encode(data)
        if not encoded.by and not _is_encoded(data):
            return data
        return wrap(encoded=encoded)

    async def decode(self, data: bytes) -> bytes:
        """The reverse of `encode`. What nobody has encoded stays as it is.

        Raises:
            CodecError: It was encoded by a codec that is not in this chain, or a codec failed.
        """
        body = body_of(data)
        if body is None or not body.is_known or body.encoded is None:
            return data
        return await self._decode(body.encoded.by, body.encoded.data)

    # --- texts ------------------------------------------------------------------------------

    async def encode_text(self, text: str) -> str:
        """Encode a text, such as that of an error, whose last line then says by which codecs.

        Of an error it still tells whether another attempt can help, as servers act on that.

        Raises:
            CodecError: A codec failed.
        """
        if not text:
            return text
        encoded = await self._encode(text.encode(errors="surrogatepass"))
        if not encoded.by and _text_of(text) is None:
            return text
        told = _EncodedText(encoded.by, encoded.data, retryable=parse_error(text).retryable)
        names = ", ".join(step[_NAME] for step in encoded.by) or "nothing"
        return f"This text is encoded by {names}.\n{_OPENING}{msgspec.json.encode(told).decode()}{_CLOSING}"

    async def decode_text(self, text: str) -> str:
        """The reverse of `encode_text`. What nobody has encoded stays as it is; so does what somebody has cut.

        Raises:
            CodecError: It was encoded by a codec that is not in this chain, or a codec failed.
        """
        told = _text_of(text)
        if told is None:
            return text
        data = await self._decode(told.by, told.data)
        try:
            return data.decode(errors="surrogatepass")
        except UnicodeDecodeError as error:
            raise CodecError(f"an encoded text is none when it is decoded: {error}") from None

    # --- the codecs -------------------------------------------------------------------------

    async def _encode(self, data: bytes) -> Encoded:
        by: list[dict[str, str]] = []
        for name, codec in self._codecs.items():
            try:
                result = await codec.encode(data)
            except CodecError:
                raise
            except Exception as error:
                raise CodecError(
                    f"codec {name!r} could not encode a payload: {type(error).__name__}: {error}", codec=name
                ) from error
            if result is not None:
                data, metadata = result
                by.append({_NAME: name, **{key: value for key, value in metadata.items() if key != _NAME}})
        return Encoded(by, data)

    async def _decode(self, by: list[dict[str, str]], data: bytes) -> bytes:
        for step in reversed(by):
            metadata = dict(step)
            name = metadata.pop(_NAME, "")
            codec = self._codecs.get(name)
            if codec is None:
                known = ", ".join(self._codecs) or "none"
                said = "".join(f", {key} {value!r}" for key, value in metadata.items())
                raise CodecError(
                    f"the payload was encoded by the codec {name!r}{said}, which is not here; the codecs that are: "
                    f"{known}. Give it to connect(codecs=[...]), or to whatever reads it",
                    codec=name,
                    key=metadata.get("key"),
                )
            try:
                data = await codec.decode(data, metadata)
            except CodecError:
                raise
            except Exception as error:
                raise CodecError(
                    f"codec {name!r} could not decode a payload: {type(error).__name__}: {error}",
                    codec=name,
                    key=metadata.get("key"),
                ) from error
        return data


def _is_encoded(data: bytes) -> bool:
    body = body_of(data)
    return body is not None and body.encoded is not None


def _text_of(text: str) -> _EncodedText | None:
    _, newline, last = text.rpartition("\n")
    if not (newline and last.startswith(_OPENING) and last.endswith(_CLOSING)):
        return None
    try:
        return _decode_text(last[len(_OPENING) : -len(_CLOSING)])
    except (msgspec.DecodeError, RecursionError):
        return None
