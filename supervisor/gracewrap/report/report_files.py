"""The last word on disk: the report file in one piece, the termination log in under 4096 bytes."""

from __future__ import annotations

import posix
import time

from gracewrap.linux.call_in_thread import Aside
from gracewrap.linux.procfs import spared
from gracewrap.record import TYPE_CHECKING
from gracewrap.report.json_encoder import dumps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gracewrap.config.settings import Settings

TERMINATION_LIMIT = 4096  # what Kubernetes reads; less is kept for its own sake


def write_all_until(
    until: float,
    settings: Settings,
    report: Mapping[str, object],
    metrics: Callable[[], str] | None,
) -> list[str]:
    """Do as write_all(), but give up at *until* (monotonic): a disk may not answer."""
    if not settings.writes_reports:
        return []
    try:
        faults = Aside().call(
            lambda: write_all(settings, report, metrics), until - time.monotonic()
        )
    except BlockingIOError as error:
        return [f"cannot write the reports: {error.strerror}"]
    assert isinstance(faults, list)
    return faults


def write_all(
    settings: Settings, report: Mapping[str, object], metrics: Callable[[], str] | None
) -> list[str]:
    """Write the report, and *metrics*, wherever the settings say; return what went wrong."""
    faults = []
    if settings.report_file is not None:
        faults.append(write_report(settings.report_file, report))
    if settings.report_termination_log is not None:
        faults.append(write_termination_log(settings.report_termination_log, report))
    if settings.report_prometheus_textfile is not None and metrics is not None:
        faults.append(
            write_whole(settings.report_prometheus_textfile, metrics().encode(), "the metrics")
        )
    return [fault for fault in faults if fault is not None]


def write_report(path: str, report: Mapping[str, object]) -> str | None:
    """Write the report in one piece; return the error."""
    return write_whole(path, dumps(dict(report)).encode() + b"\n", "the report")


def write_whole(path: str, data: bytes, what: str) -> str | None:
    """Write *data* beside *path* and rename it there, so that a reader sees the old content or the
    new; return the error.

    What is no regular file (a pipe, /dev/stderr) is appended to as it is.
    """
    path = _resolve(path)
    temporary = f"{path}.{posix.getpid()}.tmp"
    try:
        if _is_special(path):
            _write(path, data, posix.O_NONBLOCK | posix.O_APPEND)
            return None
        _remove(
            temporary
        )  # as PID 1 we have the same pid each time: a crash may have left it behind
        _write(temporary, data, posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_NONBLOCK)
        posix.rename(temporary, path)
    except OSError as error:
        _remove(temporary)
        return f"cannot write {what} to {path!r}: {error.strerror}"
    return None


def _resolve(path: str) -> str:
    """Return where a symbolic link leads, so that not the link is replaced; an open file
    (/proc/self/fd/2) stays itself."""
    for _ in range(40):  # as many as the kernel follows (path_resolution(7))
        if path.startswith("/proc/"):
            break
        try:
            target = posix.readlink(path)
        except OSError:  # EINVAL: no link
            break
        path = target if target.startswith("/") else f"{path.rpartition('/')[0]}/{target}"
    return path


def _is_special(path: str) -> bool:
    """Return whether a path is no regular file, or a file that somebody has open already."""
    try:
        return path.startswith("/proc/") or posix.stat(path).st_mode & 0o170000 != 0o100000
    except OSError:
        return False


def _write(path: str, data: bytes, flags: int) -> None:
    fd = spared(lambda: posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC | flags, 0o644))
    try:
        while data:
            data = data[posix.write(fd, data) :]
    finally:
        posix.close(fd)


def _remove(path: str) -> None:
    try:
        posix.unlink(path)
    except OSError:
        pass


def write_termination_log(path: str, report: Mapping[str, object]) -> str | None:
    """Write a shortened report in place (it is a mount, and cannot be renamed over); return the
    error.

    What the command itself has written there is kept as far as both fit, before ours: the kubelet
    reads the end.
    """
    data = shorten(report, TERMINATION_LIMIT - 1)
    special = _is_special(_resolve(path))
    # A FIFO without a reader refuses a writer, but not who would read too (fifo(7)).
    mode = posix.O_WRONLY | posix.O_APPEND if special else posix.O_RDWR | posix.O_CREAT
    try:
        fd = spared(lambda: posix.open(path, mode | posix.O_CLOEXEC | posix.O_NONBLOCK, 0o644))
    except OSError as error:
        return f"cannot write the termination log to {path!r}: {error.strerror}"
    try:
        if not special:
            posix.lseek(fd, max(0, posix.fstat(fd).st_size - TERMINATION_LIMIT), 0)
            before = posix.read(fd, TERMINATION_LIMIT).rstrip(b"\n")
            room = TERMINATION_LIMIT - 1 - len(data) - 1
            if before and room > 0:
                data = before[-room:] + b"\n" + data
            posix.lseek(fd, 0, 0)
            posix.ftruncate(fd, 0)
        posix.write(fd, data)
    except OSError as error:
        return f"cannot write the termination log to {path!r}: {error.strerror}"
    finally:
        posix.close(fd)
    return None


def shorten(report: Mapping[str, object], limit: int) -> bytes:
    """Return the report in at most *limit* bytes.

    What goes first are the flight record and the timeline, then the particulars of each program,
    the programs that ended well, the ends of long texts.
    """
    short = {key: value for key, value in report.items() if value not in (None, [], 0)}
    short["exit_status"] = report["exit_status"]
    if (data := _fitting(short, limit, limit)) is not None:
        return data
    for key in ("flight_record", "timeline", "timeline_omitted"):
        short.pop(key, None)
    programs = report.get("programs")
    shorter = _shorter(programs) if isinstance(programs, list) else ()
    for fewer in shorter:
        if (data := _fitting({**short, **fewer}, limit, limit)) is not None:
            return data
        short |= fewer
    for longest in (500, 200, 80, 20):
        if (data := _fitting(short, longest, limit)) is not None:
            return data
    return (
        dumps({"outcome": report["outcome"], "exit_status": report["exit_status"]}).encode() + b"\n"
    )


# Of each program; without these one still knows how it ended.
_PARTICULARS = (
    "command",
    "pid",
    "started",
    "ready_after_seconds",
    "stop",
    "signals_sent",
    "drain",
    "hooks",
    "flight_record",
)


def _shorter(programs: list[dict[str, object]]) -> Iterator[dict[str, object]]:
    """Yield fields of the report that say less and less of its programs."""
    brief = [
        {k: v for k, v in one.items() if k not in _PARTICULARS and v not in (None, [], 0)}
        for one in programs
    ]
    yield {"programs": brief}
    bad: list[dict[str, object]] = [
        one
        for one in brief
        if one.keys() & {"exit_status", "killed", "not_started", "left_behind", "interrupted"}
    ]
    yield {"programs": bad, "programs_omitted": len(programs) - len(bad)}
    for most in (len(bad), 10):
        outcomes = [{"name": one["name"], "outcome": one["outcome"]} for one in bad[:most]]
        yield {"programs": outcomes, "programs_omitted": len(programs) - len(outcomes)}


def _fitting(report: Mapping[str, object], longest: int, limit: int) -> bytes | None:
    """Return a report with no text longer than *longest*, if that is in *limit* bytes."""
    data = dumps({key: _clip(value, longest) for key, value in report.items()}).encode() + b"\n"
    return data if len(data) <= limit else None


def _clip(value: object, longest: int) -> object:
    if isinstance(value, str):
        return value if len(value) <= longest else value[: longest - 3] + "..."
    if isinstance(value, list):
        return [_clip(one, longest) for one in value[: max(1, longest // 40)]]
    return value
