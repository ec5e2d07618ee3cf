"""What a client is asked for, and what type checkers make of it; see test_typing.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_type

from definitions import Cart, Order, Page, Simple, charge, nothing, place

import flovyn
from flovyn import Client, Worker, WorkflowHandle, workflow_by_kind
from flovyn.serde.codecs import AesGcmCodec, DirectoryStore, OffloadCodec, PayloadCodec, ZlibCodec


async def starting(client: Client, order: Order) -> None:
    """A client starts functions and classes alike."""
    assert_type(await client.start(place, order), WorkflowHandle[list[Page[Order]]])
    assert_type(await client.start(place, order=order), WorkflowHandle[list[Page[Order]]])
    assert_type(await client.start(Cart, 3), WorkflowHandle[list[str]])
    assert_type(await client.start(flovyn.options(Cart, queue="q"), 3, fast=True), WorkflowHandle[list[str]])
    assert_type(await (await client.start(Cart, 3)).result(), list[str])
    assert_type(await client.options(idempotency_key="k").start(Simple), WorkflowHandle[None])
    assert_type(client.handle(Cart, "id"), WorkflowHandle[list[str]])
    assert_type(await client.start(workflow_by_kind("k", result=int), {"any": "thing"}), WorkflowHandle[int])
    assert_type(await client.start(workflow_by_kind("k")), WorkflowHandle[Any])
    await client.start(Simple, 1)  # E: mypy[call-arg] pyright[reportCallIssue]
    await client.start(place)  # E: mypy[call-arg] pyright[reportCallIssue]
    await client.start(Cart, "3")  # E: mypy[arg-type] pyright[reportArgumentType]
    await client.start(charge, order)  # E: mypy[arg-type] pyright[reportArgumentType,reportCallIssue]
    client.handle(charge, "id")  # E: mypy[arg-type] pyright[reportArgumentType]


def working(client: Client) -> None:
    Worker(client, workflows=[place, Cart, Simple], tasks=[charge, nothing])
    Worker(client, tasks=[place])  # E: mypy[list-item] pyright[reportArgumentType]
    Worker(client, workflows=[charge])  # E: mypy[list-item] pyright[reportArgumentType]
    Worker(client, tasks=[charge], on_violation="ignore")  # E: mypy[arg-type] pyright[reportArgumentType]


class Backwards:
    """A codec needs a name and two methods, and no base class."""

    name = "backwards"

    async def encode(self, data: bytes) -> tuple[bytes, Mapping[str, str]] | None:
        return data[::-1], {}

    async def decode(self, data: bytes, metadata: Mapping[str, str]) -> bytes:
        return data[::-1]


class Nameless:
    async def encode(self, data: bytes) -> tuple[bytes, Mapping[str, str]] | None:
        return None

    async def decode(self, data: bytes, metadata: Mapping[str, str]) -> bytes:
        return data


async def connecting(key: bytes) -> None:
    codecs: list[PayloadCodec] = [
        ZlibCodec(),
        AesGcmCodec({"k": key}, current="k"),
        OffloadCodec(DirectoryStore("payloads")),
        Backwards(),
    ]
    async with flovyn.connect(org_id="o", codecs=codecs) as client:
        assert_type(client, Client)
    codecs.append(Nameless())  # E: mypy[arg-type] pyright[reportArgumentType]
