"""A served REST interface, two organisations with all sorts of keys, and both ways in: HTTP and gRPC."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2

from flovyn.server import Access, Key, Org, Server, serve
from flovyn.server.engine.invariants import violations
from flovyn.wire import methods
from flovyn.wire.channel import Channel
from flovyn.wire.messages.flovyn import v1 as pb

__all__ = ["ACCESS", "ACME", "ISO", "OTHER", "UUID", "Rest", "rest"]

ACME = Org("6ba7b810-9dad-41d1-80b4-00c04fd430c8", "acme", "Acme Ltd", "PRO")
OTHER = Org("6ba7b811-9dad-41d1-80b4-00c04fd430c8", "other")
ACCESS = Access(
    [ACME, OTHER],
    [
        Key("worker-key", ACME.id, "Worker", "the worker"),
        Key("user-key", ACME.id, "User", "ada"),
        Key("other-worker", OTHER.id, "Worker"),
        Key("other-user", OTHER.id, "User", "eve"),
        Key("both", ACME.id, "User", "grace"),
        Key("both", ACME.id, "Worker"),
    ],
)
LIMIT_S = 20
UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
ISO = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"

_STATUS = {
    pb.CommandType.COMPLETE_WORKFLOW: pb.WorkflowStatus.COMPLETED,
    pb.CommandType.FAIL_WORKFLOW: pb.WorkflowStatus.FAILED,
    pb.CommandType.CANCEL_WORKFLOW: pb.WorkflowStatus.CANCELLED,
    pb.CommandType.SUSPEND_WORKFLOW: pb.WorkflowStatus.SUSPENDED,
}


class Rest:
    """One server, seen by a user of REST, and by a worker over gRPC."""

    def __init__(self, server: Server, http: httpx2.AsyncClient, channel: Channel) -> None:
        self.server = server
        self.http = http
        self.channel = channel

    # --- HTTP -------------------------------------------------------------------------------

    async def ask(
        self, method: str, path: str, body: Any = None, *, org: str = "acme", **options: Any
    ) -> httpx2.Response:
        """A request for something of the organisation."""
        if body is not None:
            options["json"] = body
        return await self.http.request(method, f"/api/orgs/{org}{path}", **options)

    async def get(self, path: str, **query: Any) -> Any:
        """The body of a good answer."""
        reply = await self.ask("GET", path, params=query)
        assert reply.status_code == 200, reply.text
        return reply.json()

    async def post(self, path: str, body: Any = None, status: int = 200) -> Any:
        """The body of a good answer."""
        reply = await self.ask("POST", path, body)
        assert reply.status_code == status, reply.text
        return reply.json()

    async def refused(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, str]:
        """Status and text of a refusal."""
        reply = await self.ask(method, path, body, **options)
        assert list(reply.json()) == ["error"]
        return reply.status_code, reply.json()["error"]

    async def start(self, kind: str = "order", **fields: Any) -> str:
        started = await self.post("/workflow-executions", {"kind": kind, "input": {}, **fields}, 201)
        return str(started["workflowExecutionId"])

    async def status(self, run: str) -> str:
        return str((await self.get(f"/workflow-executions/{run}"))["status"])

    async def types(self, run: str) -> list[str]:
        return [event["eventType"] for event in await self.get(f"/workflow-executions/{run}/events")]

    # --- a worker ---------------------------------------------------------------------------

    async def activate(self, *commands: pb.WorkflowCommand) -> str:
        """Claim the next run and submit."""
        request = pb.PollRequest(worker_id="w", org_id=ACME.id, timeout_seconds=5)
        reply = await self.channel.unary(methods.POLL_WORKFLOW, request)
        run = reply.message.workflow_execution
        assert run is not None
        status = _STATUS[pb.CommandType(commands[-1].command_type)]
        submit = pb.SubmitWorkflowCommandsRequest(workflow_execution_id=run.id, commands=list(commands), status=status)
        echo = {"flovyn-claim": reply.metadata["flovyn-claim"]}
        await self.channel.unary(methods.SUBMIT_WORKFLOW_COMMANDS, submit, metadata=echo)
        return run.id

    async def claim_task(self) -> tuple[str, dict[str, str]]:
        """The id of the next task, and what is to be sent along with every call for it."""
        request = pb.PollTaskRequest(worker_id="w", org_id=ACME.id, timeout_seconds=5)
        reply = await self.channel.unary(methods.POLL_TASK, request)
        assert reply.message.task is not None
        return reply.message.task.task_execution_id, {"flovyn-claim": reply.metadata["flovyn-claim"]}

    async def register(self, *workflows: pb.WorkflowCapability, **fields: Any) -> str:
        request = pb.WorkerRegistrationRequest(
            worker_name="w",
            worker_version="1.2",
            worker_type="UNIFIED",
            org_id=ACME.id,
            host_name="box",
            process_id="7",
            workflows=list(workflows),
            **fields,
        )
        return (await self.channel.unary(methods.REGISTER_WORKER, request)).message.worker_id


@asynccontextmanager
async def rest(**options: Any) -> AsyncGenerator[Rest]:
    """A server, and its end: nothing is left of it."""
    options = {"dev": False, "access": ACCESS, "http_port": 0, **options}
    with anyio.fail_after(LIMIT_S):
        async with serve(**options) as server:
            assert server.http_url is not None
            headers = {"authorization": "Bearer user-key"}
            async with (
                httpx2.AsyncClient(base_url=server.http_url, headers=headers, trust_env=False) as http,
                Channel(server.url, token="worker-key") as channel,
            ):
                yield Rest(server, http, channel)
            assert violations(server.engine) == []
        left = server.statistics()
        assert (left.connections, left.waiting_polls, left.listeners) == (0, 0, 0)
        assert (left.http_connections, left.http_requests) == (0, 0)
