"""TaskExecution, the part in which task bodies write things down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.methods import Empty

if TYPE_CHECKING:
    from flovyn.server.acceptor import Call, Routes
    from flovyn.server.shell import Shell

__all__ = ["add"]


class _Notes:
    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._engine = shell.engine

    async def get_state(self, call: Call, request: pb.GetStateRequest) -> pb.GetStateResponse:
        value = self._engine.notes.get(self._shell.caller(call), request.task_execution_id, request.key)
        return pb.GetStateResponse(value=value or b"", found=value is not None)

    async def set_state(self, call: Call, request: pb.SetStateRequest) -> Empty:
        self._engine.notes.put(self._shell.caller(call), request.task_execution_id, request.key, request.value)
        return Empty()

    async def clear_state(self, call: Call, request: pb.ClearStateRequest) -> Empty:
        self._engine.notes.clear(self._shell.caller(call), request.task_execution_id, request.key)
        return Empty()

    async def clear_all_state(self, call: Call, request: pb.ClearAllStateRequest) -> Empty:
        self._engine.notes.clear_all(self._shell.caller(call), request.task_execution_id)
        return Empty()

    async def state_keys(self, call: Call, request: pb.GetStateKeysRequest) -> pb.GetStateKeysResponse:
        return pb.GetStateKeysResponse(
            keys=self._engine.notes.keys(self._shell.caller(call), request.task_execution_id)
        )

    async def progress(self, call: Call, request: pb.ReportProgressRequest) -> Empty:
        caller = self._shell.caller(call)
        self._engine.notes.progress(caller, request.task_execution_id, request.progress, request.details)
        return Empty()

    async def log(self, call: Call, request: pb.LogMessageRequest) -> Empty:
        self._engine.notes.log(self._shell.caller(call), request.task_execution_id, request.level, request.message)
        return Empty()

    async def stream(self, call: Call, request: pb.StreamTaskDataRequest) -> pb.StreamTaskDataResponse:
        # Nobody can listen in yet, and what nobody hears is gone: that is how the platform has it.
        self._engine.tasks.find(self._shell.caller(call), request.task_execution_id)
        return pb.StreamTaskDataResponse(acknowledged=True)


def add(routes: Routes, shell: Shell) -> None:
    """Answer these RPCs."""
    service = _Notes(shell)
    routes.unary(methods.GET_STATE, shell.answering(service.get_state))
    routes.unary(methods.SET_STATE, shell.answering(service.set_state))
    routes.unary(methods.CLEAR_STATE, shell.answering(service.clear_state))
    routes.unary(methods.CLEAR_ALL_STATE, shell.answering(service.clear_all_state))
    routes.unary(methods.GET_STATE_KEYS, shell.answering(service.state_keys))
    routes.unary(methods.REPORT_PROGRESS, shell.answering(service.progress))
    routes.unary(methods.LOG_MESSAGE, shell.answering(service.log))
    routes.unary(methods.STREAM_TASK_DATA, shell.answering(service.stream))
