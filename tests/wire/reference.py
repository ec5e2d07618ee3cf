"""The protocol as google's own protobuf understands it, built from the protocol files when the tests run."""

from __future__ import annotations

import functools
import importlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import betterproto2

from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.messages.google.protobuf import Empty

PROTO = Path(__file__).resolve().parents[2] / "proto"
SOURCES = ("flovyn.proto", "agent.proto")

# Google's protobuf has no types that a strict checker could use.
Google = Any
Descriptor = Any


@functools.cache
def files() -> Google:
    """What protoc reads in the protocol files, with what they import."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "descriptors.bin"
        command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTO}", "--include_imports"]
        subprocess.run([*command, f"--descriptor_set_out={out}", *SOURCES], check=True)
        descriptors = importlib.import_module("google.protobuf.descriptor_pb2")
        return descriptors.FileDescriptorSet.FromString(out.read_bytes())


@functools.cache
def pool() -> Google:
    result = importlib.import_module("google.protobuf.descriptor_pool").DescriptorPool()
    for file in files().file:
        result.Add(file)
    return result


@functools.cache
def message_names() -> tuple[str, ...]:
    """Every message of both files, and the one that they import."""
    return tuple(f"{file.package}.{message.name}" for file in files().file for message in file.message_type)


def descriptor(name: str) -> Descriptor:
    return pool().FindMessageTypeByName(name)


@functools.cache
def google_class(name: str) -> Google:
    return importlib.import_module("google.protobuf.message_factory").GetMessageClass(descriptor(name))


def our_class(name: str) -> type[betterproto2.Message]:
    if name == "google.protobuf.Empty":
        return Empty
    cls: type[betterproto2.Message] = getattr(pb, name.rpartition(".")[2])
    return cls


def google_bytes(message: Google) -> bytes:
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def google_decode(name: str, data: bytes) -> Google | None:
    """The message, or None if google refuses the bytes."""
    refused = importlib.import_module("google.protobuf.message").DecodeError
    try:
        return google_class(name).FromString(data)
    except refused:
        return None
