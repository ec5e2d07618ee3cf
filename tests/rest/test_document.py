"""The OpenAPI document is valid, and the server keeps to it whatever it is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pytest
import schemathesis
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV30SpecValidator
from schemathesis import GenerationMode
from schemathesis.checks import positive_data_acceptance
from schemathesis.specs.openapi import checks as openapi_checks

from flovyn.server import Server, serve
from flovyn.server.engine import Caller, Described, Start, TaskWanted
from flovyn.server.engine.invariants import violations
from flovyn.server.rest.document import document
from flovyn.server.rest.table import ROUTES
from flovyn.wire.messages.flovyn import v1 as pb
from rest.rest_world import ACCESS, ACME
from server.world import create_promise, fail, schedule, suspend

DOCUMENT: dict[str, Any] = json.loads(document())
SCHEMA: Any = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS: list[Any] = [result.ok() for result in SCHEMA.get_all_operations()]
KEY = {"authorization": "Bearer user-key"}
checks: Any = openapi_checks
EXCUSED: list[Any] = [
    positive_data_acceptance,  # what fits the document may not fit what is there: a task that has begun, for one
    checks.ignored_auth,  # it does not see that the key is taken away; test_auth.py does all of that
]


def test_the_document_is_valid() -> None:
    OpenAPIV30SpecValidator(DOCUMENT).validate()


def test_every_reference_leads_somewhere_and_nothing_is_left_over() -> None:
    text = json.dumps(DOCUMENT)
    referred = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert referred == set(DOCUMENT["components"]["schemas"])


def test_the_document_describes_what_is_served_and_nothing_else() -> None:
    described = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert described == {(route.method, route.path.replace(":path}", "}")) for route in ROUTES}
    names = [operation["operationId"] for methods in DOCUMENT["paths"].values() for operation in methods.values()]
    assert len(set(names)) == len(names)
    assert all(route.summary.endswith(".") for route in ROUTES)


def test_it_speaks_openapi_3_0() -> None:
    text = json.dumps(DOCUMENT)
    for newer in ('"null"', '"const"', '"examples"', '"prefixItems"', '"$defs"', '"type": ['):
        assert newer not in text
    body = DOCUMENT["components"]["schemas"]["StartWorkflow"]
    assert body["properties"]["version"] == {"type": "string", "maxLength": 255, "nullable": True, "default": None}
    assert body["required"] == ["kind"]
    assert body["additionalProperties"] is False


# --- fuzzing --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Served:
    """A server in a thread of its own."""

    server: Server
    portal: BlockingPortal

    def known(self) -> dict[str, list[str]]:
        """Things that are there, for addresses that lead somewhere."""
        return self.portal.call(_known, self.server)


def _known(server: Server) -> dict[str, list[str]]:
    store = server.engine.core.store
    ids = [row.id for row in store.runs.all()[-3:]] + [row.id for row in store.tasks.all()[-3:]]
    ids += [row.id for row in store.promises.all()[-3:]]
    return {"id": ids, "kind": ["order", "charge"], "key": ["k"]}


def _fill(server: Server) -> None:
    """Something of everything."""
    engine, caller = server.engine, Caller(ACME.id, 1_000_000)
    engine.workers.register(
        caller, name="w", version="1", worker_type="UNIFIED", host="h", process="1",
        workflows={"order": b""}, tasks={"charge": b""},
        definitions=[Described("workflow", "order", input_schema=b'{"type":"object"}'), Described("task", "charge")],
    )  # fmt: skip
    poller = engine.workers.poller(caller, "workflow", worker_id="w", queue="")
    for commands, status in (
        ([schedule(), create_promise(idempotency_key="k"), suspend()], pb.WorkflowStatus.SUSPENDED),
        ([fail()], pb.WorkflowStatus.FAILED),
    ):
        engine.workflows.start(caller, Start("order", payload=b"{}"))
        claimed = engine.workflows.claim(caller, poller)
        assert claimed is not None
        engine.workflows.submit(Caller(ACME.id, 1, claimed.token), claimed.run.id, commands, status)
    engine.tasks.submit(caller, TaskWanted("resize", engine.core.new_id()))
    engine.disconnected(caller.link)
    engine.disconnected(1)


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """A server in a thread of its own, with something of everything in it."""
    with start_blocking_portal(request.param) as portal:
        running: AbstractContextManager[Server] = portal.wrap_async_context_manager(
            serve(dev=False, access=ACCESS, http_port=0)
        )
        with running as server:
            portal.call(_fill, server)
            yield Served(server, portal)
            assert portal.call(violations, server.engine) == []
        left = server.statistics()
        assert (left.http_connections, left.http_requests) == (0, 0)


CASES = [
    pytest.param(operation, mode, id=f"{operation.label}, {mode.value}")
    for operation in OPERATIONS
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or operation.body or list(operation.iter_parameters())
]


@pytest.mark.parametrize(("operation", "mode"), CASES)
def test_whatever_it_is_sent_it_keeps_to_the_document(served: Served, operation: Any, mode: GenerationMode) -> None:
    profile = settings()
    bounded = settings(
        max_examples=max(5, profile.max_examples // 25),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture],
        derandomize=profile.derandomize,
        database=None,
        deadline=None,
    )

    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    @bounded
    def fuzz(case: Any, data: st.DataObject) -> None:
        if mode is GenerationMode.POSITIVE and "org" in case.path_parameters:
            case.path_parameters["org"] = "acme"
            for name, values in served.known().items():
                if name in case.path_parameters and values and data.draw(st.booleans()):
                    case.path_parameters[name] = data.draw(st.sampled_from(values))
        case.call_and_validate(served.server.http_url, headers=KEY, excluded_checks=EXCUSED, timeout=10)

    fuzz()
