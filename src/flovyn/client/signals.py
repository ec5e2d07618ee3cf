"""Signals on their way to a workflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb

if TYPE_CHECKING:
    from flovyn.client.calls import Calls

__all__ = ["Signals"]


class Signals:
    """Sends signals.

    Args:
        org_id: The organisation.
        calls: What carries them.
    """

    __slots__ = ("_calls", "_org_id")

    def __init__(self, org_id: str, calls: Calls) -> None:
        self._org_id = org_id
        self._calls = calls

    async def send(self, workflow_id: str, name: str, data: bytes) -> int:
        """Send one, once: it would come twice if it was sent twice. Returns its number in the history."""
        request = pb.SignalWorkflowRequest(
            org_id=self._org_id, workflow_execution_id=workflow_id, signal_name=name, signal_value=data
        )
        return (await self._calls.once(methods.SIGNAL_WORKFLOW, request)).signal_event_sequence
