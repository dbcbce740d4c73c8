"""Another user, directory, limits: what a child makes of itself between fork(2) and exec.  Loaded
only where it is asked for."""

from __future__ import annotations

import posix

from gracewrap.linux import standard_streams
from gracewrap.linux.procfs import spared
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Mapping

EPERM, EINVAL, EACCES = 1, 22, 13
UNLIMITED = -1


class Limit(Record):
    """A limit of setrlimit(2)."""

    name: str  # as it is written
    number: int
    soft: int  # or UNLIMITED
    hard: int


class ExecContext(Record):
    """What a child is to be.  None: as we are."""

    environment: Mapping[bytes, bytes]  # all of it
    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None  # all supplementary ones
    user: str = ""  # uid, gid and groups as they are written
    group: str = ""
    working_dir: str | None = None
    umask: int | None = None
    limits: tuple[Limit, ...] = ()
    nice: int | None = None
    no_stdin: bool = False


class Refused(Exception):
    """Something that the child cannot become; the text says what, and why."""


def become(process: ExecContext) -> None:
    """In the child, before its exec: become *process*.

    What needs privileges comes before the user is changed, and the directory is entered as that
    user.

    Raises:
        Refused: With a message for people.
    """
    if process.no_stdin:
        try:  # with what we have held back, which is of no use to it
            fd = spared(lambda: posix.open("/dev/null", posix.O_RDONLY))
            if fd != 0:
                posix.dup2(fd, 0)
                posix.close(fd)
        except OSError as error:
            raise Refused(f"cannot give it an empty stdin: /dev/null: {error.strerror}") from None
    for limit in process.limits:
        _limit(limit)
    if process.nice is not None:
        try:
            posix.setpriority(posix.PRIO_PROCESS, 0, process.nice)
        except OSError as error:
            raise Refused(f"cannot set nice = {process.nice}: {error.strerror}; {_us()}") from None
    if process.umask is not None:
        posix.umask(process.umask)
    _change_user(process)
    if process.working_dir is not None:
        try:
            posix.chdir(process.working_dir)
        except OSError as error:
            who = f" for user {posix.geteuid()}" if error.errno == EACCES else ""
            raise Refused(
                f"cannot start in working_dir {process.working_dir!r}: {error.strerror}{who}"
            ) from None


def _limit(limit: Limit) -> None:
    import resource

    try:
        resource.setrlimit(limit.number, (limit.soft, limit.hard))
    except (OSError, ValueError) as error:  # ValueError: what Python says to EPERM
        hard = resource.getrlimit(limit.number)[1]
        shown = "unlimited" if hard == UNLIMITED else hard
        why = getattr(error, "strerror", None) or posix.strerror(EPERM)
        raise Refused(
            f"cannot set the limit {limit.name}: {why}; the hard limit is {shown}, and {_us()}"
        ) from None


def _change_user(process: ExecContext) -> None:
    """Change groups, group and user, in this order: afterwards nobody may."""
    what = (
        f"get the groups of user {process.user!r}" if process.user else "get supplementary_groups"
    )
    try:
        if process.groups is not None and set(process.groups) != set(posix.getgroups()):
            posix.setgroups(process.groups)
        what = f"get group {process.group!r}" if process.group else f"become user {process.user!r}"
        if process.gid is not None and set(posix.getresgid()) != {process.gid}:
            posix.setresgid(process.gid, process.gid, process.gid)
        what = f"become user {process.user!r}"
        if process.uid is not None and set(posix.getresuid()) != {process.uid}:
            standard_streams.let_open(process.uid)
            posix.setresuid(process.uid, process.uid, process.uid)
    except OSError as error:
        why = (
            f"{error.strerror} (a number that this user namespace does not have)"
            if error.errno == EINVAL
            else error.strerror
        )
        if error.errno == EPERM and process.user and process.uid != posix.geteuid():
            what = f"become user {process.user!r}"  # to whose groups the same applies
        raise Refused(f"cannot {what}: {why}; {_us()}") from None


def _us() -> str:
    return f"gracewrap runs as uid {posix.geteuid()}"
