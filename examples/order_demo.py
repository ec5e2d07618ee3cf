"""Starts the embedded server, a worker and a client in one process, and runs `order.place_order` twice.

Run it as ``python -m examples.order_demo``; add ``trio`` to run it on trio.
"""

from __future__ import annotations

import sys

import anyio

import flovyn
from examples.order import Item, Order, Receipt, charge, place_order, refund, ship
from flovyn import WorkflowHandle
from flovyn.server import serve

GOOD = Order("o-1", [Item("tea", 450), Item("kettle", 2900), Item("cup", 700)])
SOLD_OUT = Order("o-2", [Item("tea", 450), Item("unicorn", 99_900, in_stock=False), Item("cup", 700)])


async def show(title: str, handle: WorkflowHandle[Receipt]) -> None:
    """Wait for an order and print how it went."""
    receipt = await handle.result()
    print(f"\n{title}: workflow {handle.id}")
    for event in await handle.history():
        data: dict[str, object] = event.data or {}
        # The first line of an error is for people; what stands behind it is for the other side's SDK.
        about = {key: str(value).partition("\n")[0] for key, value in data.items() if key in SHOWN}
        print(f"  {event.sequence:3}  {event.type:24} {about or ''}")
    print(f"  result: {receipt}")


SHOWN = ("kind", "output", "reason", "error", "durationMs", "timerId")


async def main() -> None:
    """Run the two orders side by side."""
    async with (
        serve() as server,
        flovyn.connect(server.url, org_id=server.org_id, token=server.token) as client,
        flovyn.Worker(client, workflows=[place_order], tasks=[charge, refund, ship]),
    ):
        print(f"server on {server.url}, organisation {server.org_id}")
        good = await client.start(place_order, GOOD)
        sold_out = await client.start(place_order, SOLD_OUT)
        await show("An order that works out", good)
        await show(
            "An order with an item that is sold out: its siblings are cancelled, the charge is refunded", sold_out
        )


if __name__ == "__main__":
    anyio.run(main, backend=sys.argv[1] if len(sys.argv) > 1 else "asyncio")
