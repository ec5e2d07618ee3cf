"""Workers: registering, heartbeats, and what a poll may be given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flovyn.errors import NotFound
from flovyn.server.engine import described, validation
from flovyn.server.store.workers import WorkerRow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flovyn.server.engine.core import Caller, Core
    from flovyn.server.engine.described import Described
    from flovyn.server.engine.leases import Link
    from flovyn.server.store.workers import Of

__all__ = ["Poller", "Workers"]


@dataclass(frozen=True, slots=True)
class Poller:
    """Who polls, and for what.

    Attributes:
        of: The kind of work.
        org_id: The organisation.
        queue: The queue's one spelling.
        worker: The worker's name, or whatever string it polls under.
        kinds: What it can work on; None if it never said.
    """

    of: Of
    org_id: str
    queue: str
    worker: str
    kinds: tuple[str, ...] | None

    def takes(self, kind: str) -> bool:
        """Whether it can work on this kind."""
        return self.kinds is None or kind in self.kinds


class Workers:
    """What workers say about themselves."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def register(  # noqa: PLR0913 - all that a registration says, each by its name
        self,
        caller: Caller,
        *,
        name: str,
        version: str,
        worker_type: str,
        host: str,
        process: str,
        workflows: Mapping[str, bytes],
        tasks: Mapping[str, bytes],
        definitions: Sequence[Described] = (),
        team_id: str | None = None,
        metadata: bytes = b"",
    ) -> str:
        """Remember a worker and, in place of what it said before, its kinds with their metadata.

        What it says beyond that about the kinds (`definitions`) outlives it: it is what can be looked up.

        Returns:
            The worker's UUID, the same one for the same name.

        Raises:
            InvalidArgument: A name or a kind is empty or too long, or a schema is no JSON.
        """
        core = self._core
        now = core.clock()
        validation.name(name, "worker_name")
        rows = described.rows(core, caller.org_id, definitions)
        for of, kinds in (("workflows", workflows), ("tasks", tasks)):
            for kind in kinds:
                validation.name(kind, f"{of}.kind")
        with core.transaction():
            known = core.store.workers.find(caller.org_id, name)
            worker_id = known.id if known is not None and known.name == name else core.new_id()
            core.store.workers.put(
                WorkerRow(
                    id=worker_id,
                    org_id=caller.org_id,
                    name=name,
                    version=validation.text(version, "worker_version"),
                    type=validation.text(worker_type, "worker_type"),
                    host=validation.text(host, "host_name"),
                    process=validation.text(process, "process_id"),
                    registered_at=now,
                    seen_at=now,
                    team_id=None if team_id is None else validation.text(team_id, "team_id"),
                    metadata=metadata or None,
                )
            )
            said: list[tuple[Of, str, bytes]] = []
            said.extend(("workflow", kind, metadata) for kind, metadata in workflows.items())
            said.extend(("task", kind, metadata) for kind, metadata in tasks.items())
            core.store.workers.put_capabilities(worker_id, said)
            core.store.definitions.put(rows)
        # One that does not name its process cannot be told from its successor, so it is nobody's successor.
        incarnation = f"{host}/{process}" if process else core.new_id()
        link = core.leases.appear(caller.link, (caller.org_id, name), now, process=incarnation)
        link.kinds[caller.org_id, name] = {"workflow": tuple(sorted(workflows)), "task": tuple(sorted(tasks))}
        return worker_id

    def heartbeat(self, caller: Caller, worker_id: str) -> None:
        """A worker says that it lives.

        Raises:
            NotFound: Nobody registered under that id in the caller's organisation.
        """
        core = self._core
        worker = core.store.workers.find(caller.org_id, validation.given(worker_id, "worker_id"))
        if worker is None:
            raise NotFound(f"worker {validation.shown(worker_id)} is unknown; register first")
        now = core.clock()
        with core.transaction():
            core.store.workers.seen(worker.id, now)
        core.leases.appear(caller.link, (caller.org_id, worker.name), now)

    def poller(self, caller: Caller, of: Of, *, worker_id: str, queue: str, kinds: Sequence[str] = ()) -> Poller:
        """Who a poll comes from and what it may be given.

        A worker that does not list its kinds with each poll gets those that it registered: given anything else it would
        sit on work that it cannot do.

        Raises:
            InvalidArgument: The worker's id is empty, or the queue's name too long.
        """
        core = self._core
        validation.name(worker_id, "worker_id")
        known = core.store.workers.find(caller.org_id, worker_id)
        name = worker_id if known is None else known.name
        link = core.leases.appear(caller.link, (caller.org_id, name), core.clock())
        wanted = tuple(dict.fromkeys(kinds)) or self._registered(link, known, (caller.org_id, name), of)
        return Poller(of, caller.org_id, validation.queue_name(queue, "queue"), name, wanted)

    def _registered(
        self, link: Link, known: WorkerRow | None, worker: tuple[str, str], of: Of
    ) -> tuple[str, ...] | None:
        """What a worker said it can do; None if it never did.

        What was said over the same connection counts first: official workers share names that they were not given.
        """
        own = link.kinds.get(worker)
        if own is not None:
            return own[of]
        if known is not None:
            return self._core.store.workers.kinds(known.id, of)
        org_id, _ = worker  # it may poll under another string than its name
        said = [kinds[of] for (other_org_id, _), kinds in link.kinds.items() if other_org_id == org_id]
        return tuple(dict.fromkeys(kind for kinds in said for kind in kinds)) if said else None
