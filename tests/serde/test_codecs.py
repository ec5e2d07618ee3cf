"""Codecs by themselves and in a row: what they make of payloads, and what they say when they cannot read one."""

from __future__ import annotations

import hashlib
import os
import sys
import zlib
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flovyn.errors import CodecError, ConfigurationError
from flovyn.serde import decode, encode
from flovyn.serde.codecs import (
    AesGcmCodec,
    CodecChain,
    DirectoryStore,
    OffloadCodec,
    PayloadCodec,
    ZlibCodec,
)
from flovyn.serde.envelope import format_error, parse_error

pytestmark = pytest.mark.anyio

KEY = bytes(range(32))
LONG = encode({"words": ["canary"] * 1_000})


class Reversed:
    """The smallest codec there is; notes what it was told."""

    def __init__(self, name: str = "reversed") -> None:
        self.name = name
        self.told: list[Mapping[str, str]] = []

    async def encode(self, data: bytes) -> tuple[bytes, Mapping[str, str]] | None:
        return data[::-1], {"length": str(len(data)), "codec": "a name that is not for it to give"}

    async def decode(self, data: bytes, metadata: Mapping[str, str]) -> bytes:
        self.told.append(metadata)
        return data[::-1]


class Broken:
    name = "broken"

    async def encode(self, data: bytes) -> tuple[bytes, Mapping[str, str]] | None:
        raise OSError("no route")

    async def decode(self, data: bytes, metadata: Mapping[str, str]) -> bytes:
        raise OSError("no route")


class Memory:
    """A store that keeps what it was given."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def put(self, key: str, data: bytes) -> None:
        self.kept[key] = data

    async def get(self, key: str) -> bytes:
        return self.kept[key]


def read(data: bytes) -> Any:
    return msgspec.json.decode(data)


def encrypting(key_id: str = "k1", **others: bytes) -> AesGcmCodec:
    return AesGcmCodec({key_id: KEY, **others}, current=key_id)


# --- a chain ----------------------------------------------------------------------------------


async def test_an_encoded_payload_is_json_that_says_by_what_and_in_which_order() -> None:
    codec = Reversed()
    chain = CodecChain([codec, ZlibCodec(larger_than=0)])
    encoded = await chain.encode(LONG)
    body = read(encoded)["$flovyn"]
    assert body["v"] == 1
    assert body["encoded"]["by"] == [{"codec": "reversed", "length": str(len(LONG))}, {"codec": "zlib"}]
    assert zlib.decompress(b64decode(body["encoded"]["data"]))[::-1] == LONG
    assert await chain.decode(encoded) == LONG
    assert codec.told == [{"length": str(len(LONG))}]


async def test_what_tools_do_to_json_does_not_matter() -> None:
    chain = CodecChain([encrypting()])
    encoded = await chain.encode(b"1")
    respelt = msgspec.json.format(msgspec.json.encode(read(encoded), order="sorted"), indent=2)
    assert respelt != encoded
    assert await chain.decode(respelt) == b"1"


@pytest.mark.parametrize("data", [b"", b"null", b"7", b'{"$flovyn":{"v":1,"error":{"message":"m"}}}', b"no JSON", LONG])
async def test_an_empty_chain_changes_nothing(data: bytes) -> None:
    chain = CodecChain()
    assert await chain.encode(data) == data
    assert await chain.decode(data) == data


async def test_nothing_stays_nothing() -> None:
    chain = CodecChain([encrypting()])
    assert (await chain.encode(b""), await chain.encode_text("")) == (b"", "")
    assert (await chain.decode(b""), await chain.decode_text("")) == (b"", "")


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["$flovyn", "v", "encoded", "a"]), inner)
    ),
    max_leaves=8,
)


@given(plain, st.booleans())
async def test_no_value_is_taken_for_an_encoded_one(value: Any, declines: bool) -> None:
    chain = CodecChain([ZlibCodec(larger_than=1_000_000)] if declines else [Reversed(), encrypting()])
    data = encode(value)
    assert decode(await chain.decode(await chain.encode(data)), Any) == value


async def test_a_forged_payload_is_given_back_as_it_is_when_no_codec_touches_it() -> None:
    """Somebody who may choose a value must not choose what is decoded."""
    store = Memory()
    chain = CodecChain([OffloadCodec(store, larger_than=10_000)])
    forged = b'{"$flovyn":{"v":1,"encoded":{"by":[{"codec":"offload","sha256":"' + b"0" * 64 + b'"}]}}}'
    for sent in (forged, encode(read(forged))):
        assert await chain.decode(await chain.encode(sent)) == sent
    assert decode(encode(read(forged)), Any) == read(forged)


async def test_a_codec_may_come_and_go_as_long_as_it_is_there_for_what_is_read() -> None:
    before = CodecChain([Reversed()])
    after = CodecChain([encrypting(), Reversed()])
    assert await after.decode(await before.encode(b"1")) == b"1"
    encoded = await after.encode(b"1")
    with pytest.raises(CodecError) as caught:
        await before.decode(encoded)
    assert (caught.value.codec, caught.value.key) == ("aes-gcm", "k1")
    assert str(caught.value) == (
        "the payload was encoded by the codec 'aes-gcm', key 'k1', which is not here; the codecs that are: reversed. "
        "Give it to connect(codecs=[...]), or to whatever reads it"
    )


async def test_a_codec_that_fails_is_named_and_its_error_kept() -> None:
    chain = CodecChain([Broken()])
    with pytest.raises(CodecError, match="^codec 'broken' could not encode a payload: OSError: no route$") as caught:
        await chain.encode(b"1")
    assert caught.value.codec == "broken"
    assert isinstance(caught.value.__cause__, OSError)
    encoded = b'{"$flovyn":{"v":1,"encoded":{"by":[{"codec":"broken"}],"data":""}}}'
    with pytest.raises(CodecError, match="^codec 'broken' could not decode a payload: OSError: no route$"):
        await chain.decode(encoded)


@pytest.mark.parametrize(
    ("codecs", "message"),
    [
        ([Reversed(), Reversed()], "two codecs have the name 'reversed': nobody could tell them apart"),
        ([Reversed("")], "has an empty name, by which nothing could be decoded"),
    ],
)
async def test_codecs_have_names_of_their_own(codecs: list[PayloadCodec], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        CodecChain(codecs)


async def test_without_its_codecs_a_payload_is_never_taken_for_a_value() -> None:
    class Options(msgspec.Struct):
        fast: bool = False

    encoded = await CodecChain([Reversed(), encrypting()]).encode(b'{"fast":true}')
    for type_ in (Any, dict[str, Any], Options, int, object):
        with pytest.raises(
            CodecError, match="^the payload is encoded by reversed, aes-gcm, and nothing has decoded"
        ) as e:
            decode(encoded, type_)
        assert e.value.codec == "aes-gcm"


async def test_it_is_quickly_told_whether_there_is_something_to_decode() -> None:
    chain = CodecChain([encrypting()])
    assert chain.may_concern(b"..." + await chain.encode(b"1") + b"...")
    assert chain.may_concern((await chain.encode_text("text")).encode())
    assert not chain.may_concern(b'{"operationName":"$flovyn.activation","result":{"id":"a"}}')


# --- texts ------------------------------------------------------------------------------------


@given(st.text(), st.booleans())
async def test_texts_come_back(text: str, declines: bool) -> None:
    chain = CodecChain([ZlibCodec(larger_than=1_000_000)] if declines else [Reversed(), encrypting()])
    assert await chain.decode_text(await chain.encode_text(text)) == text


async def test_a_text_says_what_it_is() -> None:
    encoded = await CodecChain([Reversed(), encrypting()]).encode_text("canary")
    assert encoded.startswith("This text is encoded by reversed, aes-gcm.\n[flovyn:encoded {")
    assert "canary" not in encoded


async def test_a_forged_text_is_given_back_as_it_is() -> None:
    chain = CodecChain()
    forged = 'x\n[flovyn:encoded {"by":[{"codec":"offload"}]}]'
    encoded = await chain.encode_text(forged)
    assert encoded != forged
    assert await chain.decode_text(encoded) == forged


@pytest.mark.parametrize("text", ["a\n[flovyn:encoded {]", "[flovyn:encoded {}]", "a\n[flovyn:encoded {}] b"])
async def test_a_text_that_somebody_has_cut_stays_as_it_is(text: str) -> None:
    assert await CodecChain([encrypting()]).decode_text(text) == text


@pytest.mark.parametrize("retryable", [True, False])
async def test_of_an_error_a_server_can_tell_whether_to_try_again(retryable: bool) -> None:
    chain = CodecChain([encrypting()])
    text = format_error(ValueError("canary"), retryable=retryable)
    encoded = await chain.encode_text(text)
    assert ('"retryable":false' in encoded) is not retryable
    assert parse_error(await chain.decode_text(encoded)) == parse_error(text)


async def test_bytes_that_are_no_text_are_refused() -> None:
    chain = CodecChain([Reversed()])
    with pytest.raises(CodecError, match="an encoded text is none when it is decoded"):
        await chain.decode_text('x\n[flovyn:encoded {"by":[{"codec":"reversed"}],"data":"/w=="}]')


# --- compression ------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [LONG, LONG * 100], ids=["here", "in a thread"])
async def test_what_gets_smaller_is_compressed(data: bytes) -> None:
    result = await ZlibCodec(level=9).encode(data)
    assert result is not None
    assert len(result[0]) < len(data) // 20
    assert await ZlibCodec().decode(*result) == data


@pytest.mark.parametrize("data", [b"small" * 200, os.urandom(10_000)], ids=["small", "random"])
async def test_what_does_not_is_left(data: bytes) -> None:
    assert await ZlibCodec().encode(data) is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no zlib", "cannot be decompressed: Error -3"),
        (zlib.compress(LONG)[:-5], "cannot be decompressed: its end is missing"),
        (zlib.compress(bytes(10_001)), "becomes larger than 10000 bytes"),
    ],
)
async def test_what_cannot_be_decompressed(data: bytes, message: str) -> None:
    with pytest.raises(CodecError, match=message) as caught:
        await ZlibCodec(largest=10_000).decode(data, {})
    assert caught.value.codec == "zlib"


async def test_a_payload_may_be_as_large_as_is_allowed() -> None:
    assert await ZlibCodec(largest=10_000).decode(zlib.compress(bytes(10_000)), {}) == bytes(10_000)


async def test_levels() -> None:
    with pytest.raises(ConfigurationError, match="level must be from 1 to 9, not 0"):
        ZlibCodec(level=0)


# --- encryption -------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"canary", LONG * 100], ids=["here", "in a thread"])
async def test_what_is_encrypted_comes_back_and_is_never_the_same(data: bytes) -> None:
    codec = encrypting()
    first, second = await codec.encode(data), await codec.encode(data)
    assert first is not None
    assert second is not None
    assert first[0] != second[0]
    assert b"canary" not in first[0]
    assert first[1] == {"key": "k1"}
    assert await codec.decode(*first) == await codec.decode(*second) == data


async def test_keys_rotate() -> None:
    new = AesGcmCodec.generate_key()
    old_only, both = encrypting("old"), AesGcmCodec({"old": KEY, "new": new}, current="new")
    before, after = await old_only.encode(b"1"), await both.encode(b"2")
    assert before is not None
    assert after is not None
    assert await both.decode(*before) == b"1"
    assert after[1] == {"key": "new"}
    with pytest.raises(CodecError, match="encrypted with the key 'new'; the keys here are: old") as caught:
        await old_only.decode(*after)
    assert (caught.value.codec, caught.value.key) == ("aes-gcm", "new")


@pytest.mark.parametrize("change", ["payload", "key", "id", "cut"])
async def test_what_was_changed_is_noticed(change: str) -> None:
    codec = AesGcmCodec({"k1": KEY, "k2": KEY}, current="k1")
    result = await codec.encode(b"12345")
    assert result is not None
    data, metadata = result
    if change == "payload":
        data = data[:-1] + bytes([data[-1] ^ 1])
    elif change == "cut":
        data = data[:5]
    elif change == "key":
        codec = AesGcmCodec({"k1": AesGcmCodec.generate_key()}, current="k1")
    else:
        metadata = {"key": "k2"}  # the same key, but nobody may say so afterwards
    with pytest.raises(CodecError, match="it was changed, or its key") as caught:
        await codec.decode(data, metadata)
    assert caught.value.codec == "aes-gcm"


async def test_keys_that_cannot_work() -> None:
    with pytest.raises(
        ConfigurationError, match="the key 'k2' is to be the current one, but is not among the keys: k1"
    ):
        AesGcmCodec({"k1": KEY}, current="k2")
    with pytest.raises(ConfigurationError, match="the key 'k1' has 5 bytes; AES-256 takes 32 random ones"):
        AesGcmCodec({"k1": b"short"}, current="k1")
    assert "k1" in repr(encrypting())
    assert str(KEY) not in repr(encrypting())


async def test_without_cryptography_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'flovyn\[encryption\]'"):
        encrypting()


# --- offloading -------------------------------------------------------------------------------


async def test_what_is_large_is_put_away(tmp_path: Path) -> None:
    directory = tmp_path / "payloads"
    chain = CodecChain([OffloadCodec(DirectoryStore(directory), larger_than=100)])
    encoded = await chain.encode(LONG)
    key = hashlib.sha256(LONG).hexdigest()
    assert read(encoded)["$flovyn"]["encoded"] == {"by": [{"codec": "offload", "sha256": key}]}
    assert (directory / key[:2] / key).read_bytes() == LONG
    assert await chain.decode(encoded) == LONG
    assert await chain.encode(LONG) == encoded
    assert await chain.encode(b'"small"') == b'"small"'
    assert [path.name for path in directory.rglob("*") if path.is_file()] == [key]


async def test_what_a_store_does_not_have() -> None:
    store = Memory()
    chain = CodecChain([OffloadCodec(store, larger_than=100)])
    encoded = await chain.encode(LONG)
    (key,) = store.kept
    store.kept[key] = b"something else"
    with pytest.raises(CodecError, match="is not what was put there"):
        await chain.decode(encoded)
    store.kept.clear()
    with pytest.raises(CodecError, match="^codec 'offload' could not decode a payload: KeyError"):
        await chain.decode(encoded)


@pytest.mark.parametrize("key", ["", "../../etc/passwd", "A" * 64, "0" * 63])
async def test_a_key_from_outside_is_never_a_path(key: str, tmp_path: Path) -> None:
    with pytest.raises(CodecError, match="which is none"):
        await OffloadCodec(DirectoryStore(tmp_path)).decode(b"", {"sha256": key})


async def test_what_is_put_away_is_encrypted_first() -> None:
    store = Memory()
    chain = CodecChain([ZlibCodec(), encrypting(), OffloadCodec(store, larger_than=64)])
    encoded = await chain.encode(LONG)
    assert [step["codec"] for step in read(encoded)["$flovyn"]["encoded"]["by"]] == ["zlib", "aes-gcm", "offload"]
    assert b"canary" not in b"".join(store.kept.values())
    assert await chain.decode(encoded) == LONG
