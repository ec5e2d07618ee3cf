"""Starting workflows, with the options that a start can have."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, overload

from flovyn import serde
from flovyn.client.handle import WorkflowHandle
from flovyn.errors import ConfigurationError
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb

if TYPE_CHECKING:
    from flovyn.client.watch import Watch
    from flovyn.definitions import Workflow
    from flovyn.wire.transport import Transport

__all__ = ["StartOptions", "Starter"]

P = ParamSpec("P")
R = TypeVar("R")

# The platform's own limits: one that is exceeded is better told here than refused there.
_LONGEST_KEY: Final = 255
_SHORTEST_TTL: Final = timedelta(seconds=1)
_LONGEST_TTL: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class StartOptions:
    """How a workflow is to be started.

    Args:
        queue: The queue whose workers run it.
        idempotency_key: Starting twice with one key starts once: as long as the first one has not failed and the key
            lives, the second start is answered with the first one's handle. At most 255 characters.
        idempotency_ttl: How long the key lives, between a second and 30 days; the server's default is a day.

    Raises:
        ConfigurationError: The queue is empty, or a key or its time to live is outside these limits.
    """

    queue: str = "default"
    idempotency_key: str | None = None
    idempotency_ttl: timedelta | None = None

    def __post_init__(self) -> None:
        if not self.queue:
            raise ConfigurationError("queue must not be empty; leave it out for the default")
        key, ttl = self.idempotency_key, self.idempotency_ttl
        if key is not None and not 0 < len(key) <= _LONGEST_KEY:
            raise ConfigurationError(f"an idempotency key has 1 to {_LONGEST_KEY} characters, not {len(key)}")
        if ttl is None:
            return
        if key is None:
            raise ConfigurationError("idempotency_ttl means nothing without an idempotency_key")
        if not _SHORTEST_TTL <= ttl <= _LONGEST_TTL:
            raise ConfigurationError(f"idempotency_ttl must be from {_SHORTEST_TTL} to {_LONGEST_TTL}, not {ttl}")


class Starter:
    """Starts workflows with some options; `Client.options` makes these."""

    __slots__ = ("_options", "_org_id", "_transport", "_watch")

    def __init__(self, transport: Transport, watch: Watch, org_id: str, options: StartOptions) -> None:
        self._transport = transport
        self._watch = watch
        self._org_id = org_id
        self._options = options

    async def start(self, workflow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> WorkflowHandle[R]:
        """Start a workflow; see `Client.start`."""
        workflow_id = await self._start(workflow.kind, workflow.encode_input(args, kwargs), workflow.version)
        return WorkflowHandle(self._watch, workflow_id, kind=workflow.kind, decode=workflow.decode_output)

    @overload
    async def start_by_kind(self, kind: str, payload: object, result_type: type[R]) -> WorkflowHandle[R]: ...

    @overload
    async def start_by_kind(
        self, kind: str, payload: object = None, result_type: object = Any
    ) -> WorkflowHandle[Any]: ...

    async def start_by_kind(self, kind: str, payload: object = None, result_type: object = Any) -> WorkflowHandle[Any]:
        """Start a workflow that is defined elsewhere; see `Client.start_by_kind`."""
        workflow_id = await self._start(kind, serde.encode(payload), None)
        return WorkflowHandle(self._watch, workflow_id, kind=kind, decode=lambda data: serde.decode(data, result_type))

    async def _start(self, kind: str, data: bytes, version: str | None) -> str:
        options = self._options
        ttl = options.idempotency_ttl
        request = pb.StartWorkflowRequest(
            org_id=self._org_id,
            workflow_kind=kind,
            input=data,
            queue=options.queue,
            workflow_version=version,
            idempotency_key=options.idempotency_key,
            # Rounded up: a key must not die before its time.
            idempotency_key_ttl_seconds=None if ttl is None else -(-ttl // timedelta(seconds=1)),
        )
        reply = await self._transport.unary(methods.START_WORKFLOW, request)
        return reply.message.workflow_execution_id
