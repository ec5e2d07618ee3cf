"""What a workflow waits for, as the platform words it: the reason of a suspension."""

from __future__ import annotations

from typing import Final

__all__ = ["SIGNAL", "waits_for_child", "waits_for_promise", "waits_for_task", "waits_for_timer"]

SIGNAL: Final = "Waiting for signal"


def waits_for_task(task_id: str) -> str:
    """A task is to end."""
    return f"Waiting for task {task_id} to complete"


def waits_for_timer(timer_id: str) -> str:
    """A timer is to fire."""
    return f"Waiting for timer {timer_id} to fire"


def waits_for_child(name: str) -> str:
    """A child workflow is to end."""
    return f"Waiting for child workflow {name} to complete"


def waits_for_promise(name: str) -> str:
    """A promise is to be resolved."""
    return f"Waiting for promise {name} to be resolved"
