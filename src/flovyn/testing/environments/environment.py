"""A server, a worker and a client, for the length of a block."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from flovyn.client import Client
from flovyn.errors import UsageError
from flovyn.testing.environments.clock import VirtualClock
from flovyn.testing.environments.watch import VirtualWatch
from flovyn.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Sequence

    from flovyn.definitions import AnyWorkflow, Task
    from flovyn.serde.chain import PayloadCodec
    from flovyn.server.engine import Engine
    from flovyn.testing.environments.servers import VirtualServer
    from flovyn.worker.options import ViolationPolicy

__all__ = ["Environment", "environment"]

_NOWHERE: Final = "http://environment"
"""Where REST is: requests do not go by their addresses."""

_GRACE: Final = 5.0
"""Seconds that work which is under way when the block is left may go on."""

_TASK_HEARTBEAT: Final = 0.2
"""Seconds in which a task learns that it was cancelled, or ran into its deadline: tests do not like to wait."""


class Environment:
    """Everything that a test needs; `environment` makes these.

    Attributes:
        client: Starts workflows and waits for them.
        clock: The time.
        url: Where the server answers gRPC, if it is on the network; None if it is in memory.
        org_id: The organisation of the server.
        token: The key that opens it.
        engine: Its engine, for a look inside.
    """

    def __init__(self, client: Client, clock: VirtualClock, server: VirtualServer, *, worker: Worker | None) -> None:
        self.client = client
        self.clock = clock
        self.url: str | None = server.url
        self.org_id: str = server.org_id
        self.token: str = server.token
        self.engine: Engine = server.shell.engine
        self._worker = worker

    def __repr__(self) -> str:
        return f"<Environment {self.url or 'in memory'} at {self.clock.now.isoformat()}>"

    @property
    def worker(self) -> Worker:
        """The worker that runs the environment's workflows and tasks.

        Raises:
            UsageError: The environment was given neither.
        """
        if self._worker is None:
            raise UsageError("this environment has no worker: give it workflows=[...] or tasks=[...]")
        return self._worker


@asynccontextmanager
async def environment(
    *,
    workflows: Sequence[AnyWorkflow[..., Any]] = (),
    tasks: Sequence[Task[..., Any]] = (),
    queue: str = "default",
    on_violation: ViolationPolicy = "fail",
    start: datetime | None = None,
    db: str = ":memory:",
    network: bool = False,
    codecs: Iterable[PayloadCodec] = (),
) -> AsyncGenerator[Environment]:
    """Run a server, a worker and a client for as long as the block runs, on asyncio and on trio.

    Server, worker and client are the real ones. Only the time is not: it stands still, and jumps from timer to timer
    while somebody waits for a workflow and nothing can run; `Environment.clock` has more.

    Args:
        workflows: What the worker runs.
        tasks: Likewise.
        queue: The queue of client and worker.
        on_violation: What becomes of a workflow whose code disagrees with its history; in a test it had better fail.
        start: The time at first, aware of its time zone; now if left out.
        db: The server's SQLite file, created if there is none; ``:memory:`` keeps nothing.
        network: Whether calls go through a socket, where others can call, too.
        codecs: What payloads go through before they are sent, in order, and backwards when they are read.

    Yields:
        The environment.

    Raises:
        ConfigurationError: The file or a port cannot be had, or an option cannot work.
        DefinitionError: Something that is no definition, or has no code; or two definitions of one kind.
        UsageError: The start has no time zone, or lies before 1970.

    Example:
        ```python
        async def test_a_reminder_goes_out_after_a_month() -> None:
            async with environment(workflows=[remind], tasks=[mail]) as env:
                handle = await env.client.start(remind, "ann@example.org")
                assert await handle.result() == "reminded"  # at once
        ```
    """
    # What only needs the Replayer needs none of this.
    from flovyn.client.credentials import Fixed
    from flovyn.client.http import Http
    from flovyn.client.rest import Rest
    from flovyn.client.retries import CALLS
    from flovyn.testing.environments.servers import serving

    clock = VirtualClock(datetime.now(UTC) if start is None else start)
    serve = serving(clock, db=db, network=network)
    async with serve as server, server.dial() as transport, Http(transport=server.web) as http:
        client = Client(
            transport,
            org_id=server.org_id,
            queue=queue,
            dial=server.dial,
            codecs=codecs,
            rest=Rest(http, _NOWHERE, server.org_id, Fixed(server.api_key), CALLS),
            watch=partial(VirtualWatch, shell=server.shell, clock=clock),
        )
        if not workflows and not tasks:
            yield Environment(client, clock, server, worker=None)
            return
        worker = Worker(
            client,
            workflows=workflows,
            tasks=tasks,
            on_violation=on_violation,
            grace=_GRACE,
            task_heartbeat_interval=_TASK_HEARTBEAT,
        )
        async with worker:
            server.rest.watch(worker, bool(workflows) + bool(tasks))
            yield Environment(client, clock, server, worker=worker)
