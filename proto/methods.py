"""Writes ``flovyn/wire/methods.py``: the RPCs of the protocol as constants."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from google.protobuf.descriptor_pb2 import FileDescriptorProto, MethodDescriptorProto

__all__ = ["module"]

SERVICE_FIELD = 6
METHOD_FIELD = 2
"""Numbers by which protoc names a place in a file: its n-th service, that service's n-th method."""

PREAMBLE = '''"""Every RPC of the protocol, by name."""

from __future__ import annotations

from typing import Final

from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.messages.google.protobuf import Empty
from flovyn.wire.transport import Method, Shape
'''


def module(files: Iterable[FileDescriptorProto]) -> str:
    """The source of the module, in the order of the protocol files."""
    constants = dict(_constants(files))
    exported = [*sorted(constants), "Empty"]
    return "\n".join([PREAMBLE, f"__all__ = {exported!r}", *constants.values()])


def _constants(files: Iterable[FileDescriptorProto]) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for file in files:
        comments = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
        for service_index, service in enumerate(file.service):
            for index, rpc in enumerate(service.method):
                name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", rpc.name).upper()
                if name in seen:
                    raise SystemExit(f"{file.name}: two RPCs are called {rpc.name}; the flat table needs other names")
                seen.add(name)
                comment = " ".join(comments.get((SERVICE_FIELD, service_index, METHOD_FIELD, index), "").split())
                yield name, _constant(name, f"/{file.package}.{service.name}/{rpc.name}", rpc, comment)


def _constant(name: str, path: str, rpc: MethodDescriptorProto, comment: str) -> str:
    if rpc.client_streaming and rpc.server_streaming:
        raise SystemExit(f"{path} streams both ways, which no transport carries")
    shape = "CLIENT_STREAM" if rpc.client_streaming else "SERVER_STREAM" if rpc.server_streaming else "UNARY"
    request, reply = _type(rpc.input_type), _type(rpc.output_type)
    constant = f'\n{name}: Final = Method("{path}", {request}, {reply}, Shape.{shape})'
    return f'{constant}\n"""{comment}"""' if comment else constant


def _type(full_name: str) -> str:
    name = full_name.rpartition(".")[2]
    return name if full_name.startswith(".google.") else f"pb.{name}"
