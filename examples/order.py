"""An order: charge it, ship its items in parallel, wait a durable moment, answer with a receipt.

If an item cannot be shipped, its siblings are cancelled, on the server too, and the charge is refunded.
"""

from __future__ import annotations

from dataclasses import dataclass

import anyio

from flovyn import TaskContext, TaskFailed, WorkflowContext, task, workflow


@dataclass(frozen=True)
class Item:
    """One line of an order."""

    sku: str
    price: int
    in_stock: bool = True


@dataclass(frozen=True)
class Order:
    """What a customer asks for."""

    id: str
    items: list[Item]
    cooling_off: float = 1.0
    """Seconds in which the customer could still change their mind."""


@dataclass(frozen=True)
class Payment:
    """Money taken."""

    reference: str
    amount: int


@dataclass(frozen=True)
class Parcel:
    """A shipped item."""

    sku: str
    tracking: str


@dataclass(frozen=True)
class Receipt:
    """How the order ended."""

    order_id: str
    payment: Payment
    parcels: list[Parcel]
    refunded: bool = False


@task
async def charge(ctx: TaskContext, order_id: str, amount: int) -> Payment:
    """Take the money; the task's id makes it idempotent at the payment provider."""
    return Payment(f"pay-{order_id}", amount)


@task
async def refund(ctx: TaskContext, payment: Payment) -> None:
    """Give the money back."""


@task
async def ship(ctx: TaskContext, order_id: str, item: Item) -> Parcel:
    """Hand an item to the carrier."""
    if not item.in_stock:
        raise LookupError(f"{item.sku} is out of stock")
    await anyio.sleep(0.1)
    return Parcel(item.sku, f"{order_id}/{item.sku}")


@workflow
async def place_order(ctx: WorkflowContext, order: Order) -> Receipt:
    """Take an order from payment to receipt."""
    payment = await ctx.schedule(charge, order.id, sum(item.price for item in order.items))
    shipments: list[anyio.TaskHandle[Parcel]] = []
    failed = False
    try:
        async with anyio.create_task_group() as tg:  # fan out; one failure cancels the rest, on the server too
            shipments = [tg.create_task(ctx.schedule(ship, order.id, item)) for item in order.items]
    except* TaskFailed:
        failed = True
    if failed:
        await ctx.schedule(refund, payment)
        return Receipt(order.id, payment, [], refunded=True)
    await anyio.sleep(order.cooling_off)  # a timer on the server: the worker may go away meanwhile
    return Receipt(order.id, payment, [shipment.return_value for shipment in shipments])
