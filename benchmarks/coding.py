"""How fast messages are coded: ours, stock betterproto2, and google's upb, on the same bytes.

Run it as ``python benchmarks/coding.py``. The ratios are what to look at: the times are this machine's.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import timeit
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from flovyn.wire.coding import decode, encode
from flovyn.wire.messages.flovyn import v1 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

    import betterproto2

PROTO = Path(__file__).resolve().parent.parent / "proto"


def poll_response() -> betterproto2.Message:
    return pb.PollResponse(
        workflow_execution=pb.WorkflowExecution(
            id="550e8400-e29b-41d4-a716-446655440000",
            kind="order-workflow",
            org_id="7d444840-9dc0-11d1-b245-5ffdce74fad2",
            input=b'{"order":"o-1","items":[{"sku":"a","count":2},{"sku":"b","count":1}]}',
            queue="default",
            created_at_ms=1_800_000_000_000,
            current_sequence=17,
            workflow_version="1.0.0",
            workflow_task_time_millis=1_800_000_000_500,
        ),
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )


def history(events: int = 1000) -> betterproto2.Message:
    source = random.Random(1)
    kinds = ["TASK_SCHEDULED", "TASK_COMPLETED", "TIMER_STARTED", "OPERATION_COMPLETED"]
    return pb.GetEventsResponse(
        events=[
            pb.WorkflowEvent(n + 1, source.choice(kinds), b"{" + bytes(source.randrange(100, 280)) + b"}")
            for n in range(events)
        ]
    )


def commands(count: int = 50) -> betterproto2.Message:
    schedule = [
        pb.WorkflowCommand(
            command_type=pb.CommandType.SCHEDULE_TASK,
            sequence_number=n,
            schedule_task=pb.ScheduleTaskCommand(
                kind="ship-item",
                input=b'{"sku":"a"}',
                task_execution_id="550e8400-e29b-41d4-a716-446655440000",
                max_retries=3,
            ),
        )
        for n in range(count)
    ]
    return pb.SubmitWorkflowCommandsRequest("w-1", schedule, pb.WorkflowStatus.SUSPENDED)


def google_classes() -> Callable[[str], Any]:
    """Google's message classes, built from the protocol files."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "descriptors.bin"
        command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTO}", "--include_imports"]
        subprocess.run([*command, f"--descriptor_set_out={out}", "flovyn.proto"], check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"flovyn.v1.{name}"))


def microseconds(action: Callable[[], object]) -> float:
    """The best time of one run, of about a second's worth."""
    timer = timeit.Timer(action)
    number, _ = timer.autorange()
    number = max(1, number // 4)
    return min(timer.repeat(repeat=8, number=number)) / number * 1e6


def compare(title: str, message: betterproto2.Message, google_class: Any) -> None:
    cls = type(message)
    data = encode(message)
    google_message = google_class.FromString(data)
    assert bytes(message) == data == google_message.SerializeToString(deterministic=True)
    ways: list[tuple[str, list[Callable[[], object]]]] = [
        ("encode", [lambda: encode(message), lambda: bytes(message), google_message.SerializeToString]),
        ("decode", [lambda: decode(cls, data), lambda: cls.parse(data), lambda: google_class.FromString(data)]),
    ]
    for way, coders in ways:
        ours, stock, upb = [microseconds(coder) for coder in coders]
        print(
            f"{f'{title}, {len(data)} B' if way == 'encode' else '':33} {way} |{ours:>10.2f}{stock:>10.1f}{upb:>10.2f}"
            f"     |{stock / ours:>11.1f}{ours / upb:>10.1f}"
        )


def main() -> None:
    google = google_classes()
    print(f"{'':40} |{'ours':>10}{'stock':>10}{'upb':>10}  us |{'stock/ours':>11}{'ours/upb':>10}")
    compare("PollResponse", poll_response(), google("PollResponse"))
    compare("GetEvents, 1000 events", history(), google("GetEventsResponse"))
    compare("Submit, 50 commands", commands(), google("SubmitWorkflowCommandsRequest"))


if __name__ == "__main__":
    main()
