"""A worker for `examples/order.py` as a process of its own, whose tasks leave a trace in a file.

    python order_worker.py BACKEND URL ORG TOKEN DIRECTORY

Each effect is a line in DIRECTORY/effects. Shipping waits until DIRECTORY/gate exists, so that a test can kill this
process in the middle of it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio

import flovyn
from examples.order import Item, Parcel, Payment, place_order
from flovyn import TaskContext, task


def effect(directory: Path, line: str) -> None:
    """Leave a trace; one write, so that a kill leaves all of it or nothing."""
    with (directory / "effects").open("a") as effects:
        effects.write(f"{line} {os.getpid()}\n")


def tasks(directory: Path) -> list[flovyn.Task[..., object]]:
    """The example's tasks, under the same kinds."""

    @task
    async def charge(ctx: TaskContext, order_id: str, amount: int) -> Payment:
        effect(directory, f"charge {order_id}")
        return Payment(f"pay-{order_id}", amount)

    @task
    async def refund(ctx: TaskContext, payment: Payment) -> None:
        effect(directory, f"refund {payment.reference}")

    @task
    async def ship(ctx: TaskContext, order_id: str, item: Item) -> Parcel:
        if not item.in_stock:
            raise LookupError(item.sku)
        effect(directory, f"shipping {item.sku}")
        while not (directory / "gate").exists():
            await anyio.sleep(0.01)
        effect(directory, f"shipped {item.sku}")
        return Parcel(item.sku, f"{order_id}/{item.sku}")

    return [charge, refund, ship]


async def main(url: str, org_id: str, token: str, directory: Path) -> None:
    """Work until killed."""
    async with flovyn.connect(url, org_id=org_id, token=token) as client:
        worker = flovyn.Worker(client, workflows=[place_order], tasks=tasks(directory))
        async with worker:
            effect(directory, "ready")
            await anyio.sleep_forever()


if __name__ == "__main__":
    name, url, org_id, token, where = sys.argv[1:]
    backend, _, loop = name.partition("+")
    options = {"use_uvloop": True} if loop else {}
    anyio.run(main, url, org_id, token, Path(where), backend=backend, backend_options=options)
