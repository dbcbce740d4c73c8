"""What the threads of a process wait for: the system call that each is in, or where the kernel has
put it to sleep (proc(5): syscall, wchan)."""

from __future__ import annotations

import posix

from gracewrap.linux.process_tree import state
from gracewrap.linux.procfs import read_file, spared
from gracewrap.policy import held_up_evidence
from gracewrap.policy.held_up_evidence import Wait
from gracewrap.record import TYPE_CHECKING, replace

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

MOST = 64  # threads of a process that are looked at
_SLICE = 8  # threads between two looks at the signals: 50 us each
_LONGEST = 256  # bytes of a path

# Of which system call: what it waits for, which argument is the descriptor or the path, and which
# the time (-1: none; "ms": milliseconds, below 0 for ever; "at": where the time is, 0: nowhere).
_READ, _WRITE = (held_up_evidence.READ, 0, -1, ""), (held_up_evidence.WRITE, 0, -1, "")
_ACCEPT, _CONNECT = (held_up_evidence.ACCEPT, 0, -1, ""), (held_up_evidence.CONNECT, 0, -1, "")
_SYNC, _CHILD = (held_up_evidence.SYNC, 0, -1, ""), (held_up_evidence.CHILD, -1, -1, "")
_POLL, _PPOLL = (held_up_evidence.EVENTS, -1, 2, "ms"), (held_up_evidence.EVENTS, -1, 2, "at")
_SELECT, _EPOLL = (held_up_evidence.EVENTS, -1, 4, "at"), (held_up_evidence.EVENTS, -1, 3, "ms")
_EPOLL2, _FUTEX = (held_up_evidence.EVENTS, -1, 3, "at"), (held_up_evidence.LOCK, -1, 3, "at")
_SLEEP, _PAUSE = (held_up_evidence.SLEEP, -1, -1, "always"), (held_up_evidence.SIGNAL, -1, -1, "")
_SIGWAIT, _LOCK = (held_up_evidence.SIGNAL, -1, 2, "at"), (held_up_evidence.FILE_LOCK, 0, -1, "")
_OPEN, _OPENAT = (held_up_evidence.OPEN, 0, -1, ""), (held_up_evidence.OPEN, 1, -1, "")
_SEMAPHORE, _NO_FILE = (held_up_evidence.LOCK, -1, -1, ""), (held_up_evidence.SYNC, -1, -1, "")
_FCNTL = "fcntl"
# Linux: arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h.
_CALLS: dict[str, dict[int, tuple[str, int, int, str] | str]] = {
    "x86_64": {
        **dict.fromkeys((0, 17, 19, 45, 47, 295), _READ),
        **dict.fromkeys((1, 18, 20, 40, 44, 46, 275, 296), _WRITE),
        **dict.fromkeys((43, 288), _ACCEPT), 42: _CONNECT,
        **dict.fromkeys((74, 75, 277, 306), _SYNC), **dict.fromkeys((26, 162), _NO_FILE),
        **dict.fromkeys((61, 247), _CHILD), 7: _POLL, 271: _PPOLL,
        **dict.fromkeys((23, 270), _SELECT), **dict.fromkeys((232, 281), _EPOLL), 441: _EPOLL2,
        202: _FUTEX, **dict.fromkeys((449, 455), _SEMAPHORE), **dict.fromkeys((35, 230), _SLEEP),
        **dict.fromkeys((34, 130), _PAUSE), 128: _SIGWAIT, 73: _LOCK, 72: _FCNTL, 2: _OPEN,
        257: _OPENAT, **dict.fromkeys((65, 220), _SEMAPHORE),
    },
    "aarch64": {
        **dict.fromkeys((63, 65, 67, 207, 212), _READ),
        **dict.fromkeys((64, 66, 68, 71, 76, 206, 211), _WRITE),
        **dict.fromkeys((202, 242), _ACCEPT), 203: _CONNECT,
        **dict.fromkeys((82, 83, 84, 267), _SYNC), **dict.fromkeys((81, 227), _NO_FILE),
        **dict.fromkeys((95, 260), _CHILD), 73: _PPOLL, 72: _SELECT, 22: _EPOLL, 441: _EPOLL2,
        98: _FUTEX, **dict.fromkeys((449, 455), _SEMAPHORE), **dict.fromkeys((101, 115), _SLEEP),
        133: _PAUSE, 137: _SIGWAIT, 32: _LOCK, 25: _FCNTL, 56: _OPENAT,
        **dict.fromkeys((192, 193), _SEMAPHORE),
    },
}  # fmt: skip
_TRIES = 3
_STANDARD = "its stdin", "its stdout", "its stderr"
_WAITING_LOCKS = (7, 38)  # F_SETLKW, F_OFD_SETLKW of fcntl(2)
# The same by a part of the function's name, for other machines, and for what has been resumed.
_PLACES = {
    held_up_evidence.LOCK: ("futex",),
    held_up_evidence.CHILD: ("do_wait", "vfork", "kernel_clone", "do_fork"),
    held_up_evidence.SLEEP: ("nanosleep",),
    held_up_evidence.EVENTS: ("ep_poll", "do_poll", "do_sys_poll", "do_select", "poll_schedule"),
    held_up_evidence.SIGNAL: ("sigtimedwait", "sigsuspend", "pause"),
    held_up_evidence.OPEN: ("wait_for_partner", "fifo_open"),
    held_up_evidence.FILE_LOCK: ("locks_lock", "flock"),
    held_up_evidence.ACCEPT: ("csk_accept",),
    held_up_evidence.WRITE: ("pipe_write",),
    held_up_evidence.SYNC: ("fsync",),
    held_up_evidence.READ: ("pipe_read", "sk_wait_data", "recvmsg", "stream_read", "n_tty_read"),
}


def of(pid: int) -> Generator[None, None, tuple[Wait, ...]]:
    """Return what the threads of a process wait for, those that wait for the same as one."""
    try:
        threads = spared(lambda: posix.listdir(f"/proc/{pid}/task"))
    except OSError:
        return ()
    calls = _CALLS.get(posix.uname().machine, {})
    found: dict[tuple[str, str, str, bool, str], int] = {}
    for count, thread in enumerate(threads[:MOST], 1):
        wait = _wait(pid, thread, calls)
        key = wait.state, wait.what, wait.on, wait.timed, wait.wchan
        found[key] = found.get(key, 0) + 1
        if not count % _SLICE:
            yield
    return tuple(Wait(*key, threads=count) for key, count in found.items())


def _wait(pid: int, thread: str, calls: dict[int, tuple[str, int, int, str] | str]) -> Wait:
    path = f"/proc/{pid}/task/{thread}"
    letter = place = ""
    for _ in range(_TRIES):
        letter = state(f"{pid}/task/{thread}") or "X"
        if letter == "R":
            return Wait(letter)
        place = read_file(f"{path}/wchan").decode(errors="replace").strip()
        place = "" if place == "0" else place
        if letter != "D" or place:  # else it has been woken between the two, or we may not know
            break
    wait = Wait(letter, _by_place(place), wchan=place)
    # "running", or the number of the call and its arguments; empty if we may not know.
    words = read_file(f"{path}/syscall").split()
    if len(words) < 7 or not words[0].isdigit():
        return wait
    arguments = [int(word, 16) for word in words[1:7]]
    what = calls.get(int(words[0]))
    if what == _FCNTL:
        what = _LOCK if arguments[1] in _WAITING_LOCKS else None
    if what is None or isinstance(what, str):
        return wait
    kind, subject, time, how = what
    on = _subject(pid, arguments[subject], kind) if subject >= 0 else ""
    return replace(wait, what=kind, on=on, timed=_ends(arguments, time, how))


def _by_place(place: str) -> str:
    known = (kind for kind, parts in _PLACES.items() if any(part in place for part in parts))
    return next(known, held_up_evidence.OTHER)


def _subject(pid: int, value: int, kind: str) -> str:
    """Return the file of a descriptor, or the path that an argument points to."""
    if kind != held_up_evidence.OPEN:
        try:
            number = value & 0x7FFFFFFF
            file = posix.readlink(f"/proc/{pid}/fd/{number}")
        except OSError:
            return ""
        return f"{_STANDARD[number]} ({file})" if number < len(_STANDARD) else file
    try:
        memory = posix.open(f"/proc/{pid}/mem", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return ""
    try:
        path = posix.pread(memory, _LONGEST, value)
    except (OSError, OverflowError):
        return ""
    finally:
        posix.close(memory)
    return path.partition(b"\0")[0].decode(errors="replace")


def _ends(arguments: Sequence[int], time: int, how: str) -> bool:
    """Return whether a call ends by itself after a time."""
    if how == "ms":
        return not arguments[time] & 0x80000000
    return how == "always" or (how == "at" and arguments[time] != 0)
