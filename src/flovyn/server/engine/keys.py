"""Idempotency keys: one name space for workflows, tasks and promises of an organisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flovyn.errors import AlreadyExists
from flovyn.server import limits
from flovyn.server.engine import validation

if TYPE_CHECKING:
    from flovyn.server.engine.core import Core
    from flovyn.server.store.keys import Target, TargetOf

__all__ = ["find", "lifetime_ms", "taken"]


def lifetime_ms(key: str, ttl_seconds: int | None, field: str = "idempotency_key") -> int:
    """How long a key counts.

    Raises:
        InvalidArgument: The key is empty or too long, or its time to live is out of bounds.
    """
    validation.name(key, field)
    ttl = limits.IDEMPOTENCY_TTL_DEFAULT_S if ttl_seconds is None else ttl_seconds
    low, high = limits.IDEMPOTENCY_TTL_MIN_S, limits.IDEMPOTENCY_TTL_MAX_S
    return validation.within(ttl, f"{field}_ttl_seconds", low, high) * 1000


def find(core: Core, org_id: str, key: str, of: TargetOf, field: str = "idempotency_key") -> str | None:
    """The id of what an unexpired key stands for; None if it is free.

    Raises:
        AlreadyExists: It stands for something of another sort.
    """
    target = core.store.keys.find(org_id, key, core.clock())
    if target is None:
        return None
    if target.of != of:
        raise taken(key, target, field)
    return target.id


def taken(key: str, target: Target, field: str = "idempotency_key") -> AlreadyExists:
    """The refusal of a key that stands for something else."""
    return AlreadyExists(f"{field} {validation.shown(key)} is taken by {target.of} {target.id}")
