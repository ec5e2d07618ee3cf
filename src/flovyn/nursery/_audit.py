"""The one audit hook of the process: I/O, sleeping, threads and processes announce themselves to it."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from flovyn.nursery._current import stepping
from flovyn.nursery._tripwires import trip

if TYPE_CHECKING:
    from flovyn.nursery._tripwires import Kind

__all__ = ["arm_tripwires"]

_FILES = """
open os.listdir os.scandir os.walk os.fwalk os.chdir os.fchdir os.mkdir os.remove os.rename os.rmdir os.link os.symlink
os.truncate os.chmod os.fchmod os.lchmod os.chown os.fchown os.lchown os.chflags os.lchflags os.utime
os.getxattr os.setxattr os.listxattr os.removexattr os.lockf fcntl.fcntl fcntl.flock fcntl.ioctl fcntl.lockf
glob.glob glob.glob/2 pathlib.Path.glob pathlib.Path.rglob
shutil.chown shutil.copyfile shutil.copymode shutil.copystat shutil.copytree shutil.make_archive shutil.move
shutil.rmtree shutil.unpack_archive tempfile.mkdtemp tempfile.mkstemp sqlite3.connect mmap.__new__ builtins.input
"""
_NETWORK = """
socket.__new__ socket.bind socket.connect socket.getaddrinfo socket.gethostbyaddr socket.gethostbyname
socket.gethostname socket.getnameinfo socket.getservbyname socket.getservbyport socket.sendmsg socket.sendto
socket.sethostname urllib.Request http.client.connect http.client.send ftplib.connect ftplib.sendcmd
imaplib.open imaplib.send poplib.connect poplib.putline smtplib.connect smtplib.send nntplib.connect
nntplib.putline telnetlib.Telnet.open telnetlib.Telnet.write
"""
_PROCESSES = """
subprocess.Popen os.exec os.fork os.forkpty os.posix_spawn os.spawn os.startfile os.startfile/2 os.system
os.kill os.killpg pty.spawn signal.pthread_kill webbrowser.open
"""
_THREADS = "_thread.start_new_thread _thread.start_joinable_thread"  # the first since Python 3.12
_SLEEPING = "time.sleep"  # since Python 3.13
_EVENTS: dict[Kind, str] = {
    "files": _FILES,
    "network": _NETWORK,
    "processes": _PROCESSES,
    "threads": _THREADS,
    "sleeping": _SLEEPING,
}
_KINDS: dict[str, Kind] = {event: kind for kind, events in _EVENTS.items() for event in events.split()}

_arming = threading.Lock()
_armed = False


def arm_tripwires() -> None:
    """Watch what workflow code does outside the nursery, in every kernel that has `Tripwires`.

    A second call changes nothing. There is no way back, since Python removes no audit hook; while no such kernel makes
    a step, it does nothing, in about a tenth of a microsecond for an event.
    """
    global _armed  # noqa: PLW0603  # the hook is the process's, too
    with _arming:
        if not _armed:
            _armed = True
            sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    kind = _KINDS.get(event)
    if kind is None or stepping.kernel is None or (event == "open" and _is_harmless(arguments[0])):
        return
    trip(kind, event.partition("/")[0].removesuffix(".__new__"))


def _is_harmless(path: object) -> bool:
    """Whether it is a descriptor that was opened already (a pipe of a process), or the rules of a time zone."""
    if isinstance(path, int):
        return True
    zoneinfo = sys.modules.get("zoneinfo")
    return zoneinfo is not None and isinstance(path, str) and path.startswith(tuple(zoneinfo.TZPATH))
