"""What a payload costs over bare msgspec: an order of some 400 bytes, written and read; and what each codec adds.

python benchmarks/payloads.py

Behind the ratio stands its target. The second order has a field without a value: its null could be a NaN that msgspec
has hidden, so it is looked at twice.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import timeit
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pydantic

from flovyn.serde import codec_for
from flovyn.serde.codecs import AesGcmCodec, CodecChain, ZlibCodec

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

TARGET = 1.5


@dataclass
class Item:
    sku: str
    quantity: int
    price: float


@dataclass
class Order:
    id: str
    customer: str
    created: dt.datetime
    note: str | None
    items: list[Item] = field(default_factory=list[Item])
    paid: bool = False


class ItemModel(pydantic.BaseModel):
    sku: str
    quantity: int
    price: float


class OrderModel(pydantic.BaseModel):
    id: str
    customer: str
    created: dt.datetime
    note: str | None
    items: list[ItemModel]
    paid: bool = False


def order(note: str | None, zone: dt.tzinfo = dt.UTC) -> Order:
    items = [Item(f"sku-{number:04}", number, 9.99 * number) for number in range(6)]
    created = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=zone)
    return Order("550e8400-e29b-41d4-a716-446655440000", "ada@example.com", created, note, items)


def nanoseconds(*actions: Callable[[], object]) -> list[float]:
    """The best time of each. They take turns, so that all of them have the machine's good moments."""
    timers = [timeit.Timer(action) for action in actions]
    rounds = [[timer.timeit(2_000) for timer in timers] for _ in range(60)]
    return [min(times) / 2_000 * 1e9 for times in zip(*rounds, strict=True)]


def show(title: str, data: bytes, times: list[float], target: str = "") -> None:
    bare, ours = times[:2], times[2:]
    print(
        f"{title:34} {len(data):4} B  bare {bare[0]:5.0f} +{bare[1]:5.0f} ns  ours {ours[0]:5.0f} +{ours[1]:5.0f} ns  "
        f"{sum(ours) / sum(bare):5.2f}{target}"
    )


def compare(title: str, value: Order, target: str = "") -> None:
    codec = codec_for(Order)
    write, read = msgspec.json.Encoder().encode, msgspec.json.Decoder(Order).decode
    data = write(value)
    assert codec.encode(value) == data
    times = nanoseconds(
        lambda: write(value), lambda: read(data), lambda: codec.encode(value), lambda: codec.decode(data)
    )
    show(title, data, times, target)


def models() -> None:
    value = OrderModel.model_validate(msgspec.to_builtins(order("gift")))
    codec = codec_for(OrderModel)
    data = codec.encode(value)
    times = nanoseconds(
        lambda: value.model_dump_json(by_alias=True, round_trip=True),
        lambda: OrderModel.model_validate_json(data),
        lambda: codec.encode(value),
        lambda: codec.decode(data),
    )
    show("a model of pydantic", data, times)


def there(chain: CodecChain, data: bytes) -> bytes:
    return done(chain.encode(data))


def back(chain: CodecChain, data: bytes) -> bytes:
    return done(chain.decode(data))


def done(work: Coroutine[Any, Any, bytes]) -> bytes:
    """Run something that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as stop:
        data: bytes = stop.value
        return data
    raise AssertionError("it waits")


async def codecs() -> None:
    data = codec_for(Order).encode(order("gift"))
    chains = {
        "no codec": CodecChain(),
        "zlib": CodecChain([ZlibCodec(larger_than=0)]),
        "aes-gcm": CodecChain([AesGcmCodec({"k": os.urandom(32)}, current="k")]),
        "both": CodecChain([ZlibCodec(larger_than=0), AesGcmCodec({"k": os.urandom(32)}, current="k")]),
    }
    for name, chain in chains.items():
        encoded = done(chain.encode(data))
        out, home = nanoseconds(partial(there, chain, data), partial(back, chain, encoded))
        print(f"{name:34} {len(encoded):4} B  {out / 1e3:6.1f} us there, {home / 1e3:6.1f} us back")


def main() -> None:
    compare("an order", order("gift"), f"   <= {TARGET}")
    compare("the same, without its note", order(None), f"   <= {TARGET}")
    compare("the same, at a place east of UTC", order("gift", dt.timezone(dt.timedelta(hours=2))))
    models()
    asyncio.run(codecs())


if __name__ == "__main__":
    main()
