"""Everything of AnyIO that reaches outside, refused by the name under which it was called."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NoReturn

from anyio.abc import AsyncBackend

from flovyn.errors import DeterminismError

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["Outside", "refuse_sockets"]

_EFFECT = "do it in ctx.run(...) if it is short, in a task otherwise"
_THREAD = "await the code directly, or move it to ctx.run(...) or a task"
_SIGNAL = "wait for a signal of the workflow, or let it be cancelled"


def _error(frame: FrameType | None, instead: str) -> DeterminismError:
    call = _call_of_anyio(frame)
    return DeterminismError(f"{call} reaches outside the workflow, where no replay can follow; {instead}")


def _refused(instead: str) -> Any:
    def refuse(_backend: Any, /, *_args: object, **_kwargs: object) -> NoReturn:
        frame = inspect.currentframe()
        raise _error(None if frame is None else frame.f_back, instead)

    return classmethod(refuse)


def refuse_sockets(frame: FrameType | None) -> None:
    """Refuse the task group in which AnyIO tries one address after the other.

    Otherwise the error of the backend would reach the user in an exception group.

    Args:
        frame: The frame that calls `anyio.create_task_group`.
    """
    if frame is not None and frame.f_globals.get("__name__") == "anyio._core._sockets":
        raise _error(frame, _EFFECT)


def _call_of_anyio(frame: FrameType | None) -> str:
    """The outermost AnyIO function of the call, as the user wrote it: `anyio.connect_tcp`, `anyio.Path.read_text`."""
    name = "this call"
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        if module != "anyio" and not module.startswith("anyio."):
            break
        parts = [part for part in module.split(".") if not part.startswith("_")]
        name = ".".join([*parts, frame.f_code.co_qualname])
        frame = frame.f_back
    return name


class Outside(AsyncBackend):
    """The part of a backend that workflows do without."""

    run_sync_in_worker_thread = _refused(_THREAD)
    check_cancelled = _refused(_THREAD)
    run_async_from_thread = _refused(_THREAD)
    run_sync_from_thread = _refused(_THREAD)
    run_sync_soon = _refused(_THREAD)
    current_default_thread_limiter = _refused(_THREAD)
    open_process = _refused(_EFFECT)
    setup_process_pool_exit_at_shutdown = _refused(_EFFECT)
    connect_tcp = _refused(_EFFECT)
    connect_unix = _refused(_EFFECT)
    create_tcp_listener = _refused(_EFFECT)
    create_unix_listener = _refused(_EFFECT)
    create_udp_socket = _refused(_EFFECT)
    create_unix_datagram_socket = _refused(_EFFECT)
    getaddrinfo = _refused(_EFFECT)
    getnameinfo = _refused(_EFFECT)
    wait_readable = _refused(_EFFECT)
    wait_writable = _refused(_EFFECT)
    notify_closing = _refused(_EFFECT)
    wrap_listener_socket = _refused(_EFFECT)
    wrap_stream_socket = _refused(_EFFECT)
    wrap_unix_stream_socket = _refused(_EFFECT)
    wrap_udp_socket = _refused(_EFFECT)
    wrap_connected_udp_socket = _refused(_EFFECT)
    wrap_unix_datagram_socket = _refused(_EFFECT)
    wrap_connected_unix_datagram_socket = _refused(_EFFECT)
    open_signal_receiver = _refused(_SIGNAL)
