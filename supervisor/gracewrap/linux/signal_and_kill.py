"""Sends signals to processes and groups, and SIGKILL to all that descends from us."""

from __future__ import annotations

import _signal
import posix
import time

from gracewrap.linux import call_in_thread
from gracewrap.linux.process_tree import LOOK, Member, descendants, member, thread_states, user_of
from gracewrap.linux.procfs import read_file
from gracewrap.linux.signals import SIGCONT, SIGKILL
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Processes, and groups by their leaders, whom the kernel did not let us signal last.
REFUSED: set[int] = set()
CAP_KILL = 5  # capabilities(7)


def signal_leader(pid: int, signum: int, fd: int | None = None) -> bool:
    """Signal a child of ours that has not been reaped, or what *fd*, a pidfd, stands for; return
    whether it was there."""
    if fd is None:
        return _send(lambda: posix.kill(pid, signum), pid, signum)
    return _send(lambda: _signal.pidfd_send_signal(fd, signum), pid, signum)


def signal_group(pgid: int, signum: int) -> bool:
    """Signal a process group; only while its leader is not reaped, or the number may have passed to
    somebody else."""
    return _send(lambda: posix.killpg(pgid, signum), pgid, signum)


def _send(send: Callable[[], None], pid: int, signum: int) -> bool:
    """Return whether a process is there and could be sent a signal."""
    try:
        send()
    except PermissionError:  # it has another user
        if not _as_its_user(send, pid):
            REFUSED.add(pid)
            return False
    except OSError:
        # ESRCH: it exited between the decision and the call; its SIGCHLD is on the way.
        return False
    if signum != SIGCONT:  # which anybody of the same session may send
        REFUSED.discard(pid)
    return True


def _as_its_user(send: Callable[[], None], pid: int) -> bool:
    """Send as the user of the process: root without CAP_KILL may, if it has CAP_SETUID.

    With effective user 0 all capabilities are back (capabilities(7)).  Meanwhile that user can
    neither signal nor trace us, as our real user is another one.
    """
    own, user = posix.geteuid(), user_of(pid)
    # Each thread has to take part (nptl(7)), which one that hangs would never do.
    if user is None or not call_in_thread.is_alone():
        return False
    try:
        posix.seteuid(user)
        try:
            send()
        finally:
            posix.seteuid(own)
    except OSError:
        return False
    return True


def why_refused(pid: int) -> str:
    """Return why a process may not be signalled, for people."""
    user, own = user_of(pid), posix.geteuid()
    if user in (None, own):
        return "the kernel does not permit it (EPERM)"
    why = f"it runs as user {user}, gracewrap as user {own}"
    for line in read_file("/proc/self/status").split(b"\n"):
        if line.startswith(b"CapEff:") and not int(line.split()[1], 16) & 1 << CAP_KILL:
            return f"{why} without CAP_KILL (docker run --cap-add KILL)"
    return why


def signal_member(target: Member, signum: int) -> bool:
    """Signal exactly this process; see signal_process()."""
    return signal_process(target.pid, target.started, signum)


def signal_process(pid: int, started: int, signum: int) -> bool:
    """Signal a process by pidfd, so that a later process with its pid is never hit; return whether
    it was there."""
    try:
        fd = posix.pidfd_open(pid)
    except OSError:  # gone; or no pidfd (Linux < 5.3, seccomp), no descriptor left: then by number
        again = member(pid)
        return again is not None and again.started == started and signal_leader(pid, signum)
    try:
        again = member(pid)
        if again is None and not read_file(
            "/proc/self/stat"
        ):  # the pidfd was the last descriptor: by number, then
            return signal_leader(pid, signum)
        if again is None or again.started != started:
            return False
        return signal_leader(pid, signum, fd)
    except OSError:
        return False
    finally:
        posix.close(fd)


def wait_for_exits(pids: Iterable[int], limit: float) -> None:
    """Wait until these processes, children of ours or not, have exited, for *limit* seconds at
    most."""
    import select

    asking, until = select.poll(), time.monotonic() + limit
    fds = {fd for pid in pids if (fd := _pidfd(pid)) is not None}
    left = set(fds)
    for fd in fds:
        asking.register(fd, select.POLLIN)
    while left and (rest := until - time.monotonic()) > 0:
        for fd, _ in asking.poll(rest * 1000):
            asking.unregister(fd)
            left.discard(fd)
    for fd in fds:
        posix.close(fd)


def _pidfd(pid: int) -> int | None:
    """Return a pidfd, or None: it is gone, or in another PID namespace (0), or there are no pidfds
    (Linux < 5.3, seccomp)."""
    try:
        return posix.pidfd_open(pid) if pid else None
    except OSError:
        return None


def only_wait_for_cpu(killed: Iterable[Member]) -> bool:
    """Return whether there are any left of those that have been sent SIGKILL, and all of them can
    end once they are given a CPU: some thread is about to run, and none hangs in the kernel (state
    D of proc(5)), is held by who traces it (t), or was spared for want of a permission.

    One that sleeps is the init of a PID namespace, and waits for those in it (pid_namespaces(7)).
    """
    left: set[str] = set()
    for one in killed:
        states = thread_states(one.pid)
        if states and one.pid in REFUSED:
            return False
        left |= states
    return "R" in left and left <= {"R", "S"}


def kill_all(
    leader: int | None,
    everyone: bool,
    look: Callable[[float], list[Member]] = descendants,
    groups: set[int] | None = None,
) -> list[Member]:
    """SIGKILL everything below us, or what *look* finds of it, until nothing new is found; return
    what was killed.

    Args:
        leader: The leader's pid, which is its group's too, while it is not reaped.
        everyone: We are PID 1 and nothing else is to live on: kill(-1) hits all of the namespace in
            one go of the kernel, faster than anything can fork.
        look: Returns what is to be killed, and stops looking at the time that it is given.
        groups: Process groups of what was killed a moment before, to which those of what is found
            now are added.  What is there still forks faster than we look: all of these are killed,
            whether one of them is seen in it or not.
    """
    until = time.monotonic() + LOOK
    groups = set() if groups is None else groups
    again = bool(groups)
    if again and not everyone:
        _kill_groups(groups)
    killed: dict[tuple[int, int], Member] = {}
    new = look(until)  # before anything is killed, to know their names
    if leader is not None:
        signal_group(leader, SIGKILL)
    while new:
        forks = again or bool(killed)  # it came while we looked: only the kernel is faster
        killed.update(((found.pid, found.started), found) for found in new)
        groups.update(found.pgid for found in new)
        if everyone:
            signal_leader(-1, SIGKILL)
        else:
            if forks:
                _kill_groups(groups)
            for found in new:
                signal_member(found, SIGKILL)
        new = [found for found in look(until) if (found.pid, found.started) not in killed]
    if everyone and not killed:
        signal_leader(-1, SIGKILL)  # /proc could not be read, or nothing is left: this harms nobody
    return list(killed.values())


def _kill_groups(groups: set[int]) -> None:
    """SIGKILL all of some process groups: no fork succeeds in them then (a child is not made while
    its parent has a signal pending, fork(2))."""
    for pgid in groups - {0, 1, posix.getpgrp()}:
        signal_group(pgid, SIGKILL)
