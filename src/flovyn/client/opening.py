"""The parts of a client, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flovyn.client.calls import Calls
from flovyn.client.credentials import Fixed
from flovyn.client.executions import Executions
from flovyn.client.gateway import Gateway
from flovyn.client.http import Http
from flovyn.client.promises import Promises
from flovyn.client.queries import Queries
from flovyn.client.rest import Rest
from flovyn.client.retries import CALLS
from flovyn.client.signals import Signals
from flovyn.client.tasks import Tasks
from flovyn.client.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from flovyn.definitions import RetryPolicy
    from flovyn.serde.chain import CodecChain
    from flovyn.wire.transport import Transport

__all__ = ["open_gateway"]


def open_gateway(
    transport: Transport,
    *,
    bare: Transport,
    org_id: str,
    queue: str,
    codecs: CodecChain,
    rest: Rest | None,
    retry: RetryPolicy | None,
    watch: Callable[[Calls, CodecChain], Watch] | None,
) -> Gateway:
    """Everything that can be asked of a server; see `Client` for the arguments. `bare` leaves payloads as they are."""
    policy = CALLS if retry is None else retry
    calls = Calls(transport, policy)
    rest = Rest(Http(), None, org_id, Fixed(None), policy) if rest is None else rest
    watcher = (Watch if watch is None else watch)(Calls(bare, policy), codecs)
    return Gateway(
        org_id=org_id,
        calls=calls,
        watch=watcher,
        executions=Executions(rest, codecs),
        tasks=Tasks(org_id, calls, rest, codecs, watcher),
        signals=Signals(org_id, calls),
        promises=Promises(calls, rest, watcher, codecs),
        queries=Queries(org_id, queue, calls, watcher),
    )
