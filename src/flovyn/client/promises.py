"""Promises, settled from outside: by the name that their workflow gave them, by id, or by key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from flovyn.client.ending import EndFinder
from flovyn.client.rest import part
from flovyn.errors import MalformedMessage, NotFound
from flovyn.serde.envelope import format_error
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flovyn.client.calls import Calls
    from flovyn.client.rest import Rest
    from flovyn.client.watch import Watch
    from flovyn.serde.chain import CodecChain

__all__ = ["Promises"]


class _Created(msgspec.Struct, rename="camel"):
    promise_name: str
    promise_id: str


class _Settled(msgspec.Struct):
    pass


_decode: Final = msgspec.json.Decoder(_Created).decode


def _text(error: str | Exception) -> str:
    """What a promise is rejected with: a text as it is, or an exception with its type and its causes."""
    return error if isinstance(error, str) else format_error(error)


class Promises:
    """Settles promises. The first one to do so counts, so each call may be made again.

    Args:
        calls: What carries what gRPC has a call for.
        rest: What carries the rest.
        watch: What looks for names in histories.
        codecs: What encodes what goes over REST.
    """

    __slots__ = ("_calls", "_codecs", "_rest", "_watch")

    def __init__(self, calls: Calls, rest: Rest, watch: Watch, codecs: CodecChain) -> None:
        self._calls = calls
        self._rest = rest
        self._watch = watch
        self._codecs = codecs

    async def find(self, workflow_id: str, name: str) -> str:
        """The id of the promise that a workflow has made under a name; waits until it has.

        Raises:
            NotFound: The workflow has ended without it.
            MalformedMessage: What the history says of it makes no sense.
        """
        tail, finder = self._watch.tail(workflow_id), EndFinder()
        while True:
            events = await tail.more()
            found = _created(events, name)
            if found is not None:
                return found
            if finder.look(events) is not None:
                raise NotFound(f"workflow {workflow_id} has ended, and has made no promise {name!r}")

    async def resolve(self, promise_id: str, data: bytes) -> None:
        """Give a promise its value."""
        request = pb.ResolvePromiseRequest(promise_id=promise_id, value=data)
        await self._calls.repeatedly(methods.RESOLVE_PROMISE, request)

    async def reject(self, promise_id: str, error: str | Exception) -> None:
        """Give a promise an error."""
        request = pb.RejectPromiseRequest(promise_id=promise_id, error=_text(error))
        await self._calls.repeatedly(methods.REJECT_PROMISE, request)

    async def resolve_by_key(self, name: str, key: str, data: bytes) -> None:
        """Give a promise its value."""
        body = {"value": msgspec.Raw(await self._codecs.encode(data))}
        await self._settle(f"resolving promise {name!r} by its key", key, "resolve", body)

    async def reject_by_key(self, name: str, key: str, error: str | Exception) -> None:
        """Give a promise an error."""
        body = {"error": await self._codecs.encode_text(_text(error))}
        await self._settle(f"rejecting promise {name!r} by its key", key, "reject", body)

    async def _settle(self, what: str, key: str, how: str, body: object) -> None:
        await self._rest.act(what, f"/promises/key:{part(key)}/{how}", body, _Settled, repeatable=True)


def _created(events: Iterable[pb.WorkflowEvent], name: str) -> str | None:
    for event in events:
        if event.event_type == "PROMISE_CREATED":
            try:
                created = _decode(event.event_data)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise MalformedMessage(
                    f"event {event.sequence_number} (PROMISE_CREATED) of the history cannot be read: {error}"
                ) from error
            if created.promise_name == name:
                return created.promise_id
    return None
