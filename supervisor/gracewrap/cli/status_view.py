"""What /status says, for people: plain lines, which `gracewrap status` prints and its live view
colours.

Nothing is taken for granted: an older or a newer gracewrap may leave out what this one tells.
"""

from __future__ import annotations

from gracewrap.config.problems import one_line
from gracewrap.record import TYPE_CHECKING, Record
from gracewrap.report.in_flight import number
from gracewrap.report.wording import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any


ENDED = ("completed", "stopped", "failed", "exited")  # phases of a program of which nothing is left

UP = (
    "running",
    "starting",
    "degraded",
    "restarting",
)  # phases in which nobody has asked for a drain or stop of all

MOST, NAMED_MOST = (
    3,
    6,
)  # so many programs are told of in a line that is written over, and in one that stays

# seconds; a probe's answer that is older, and to which a question has not been answered, tells
# nothing of what is so now (a probe is asked at most 0.25 s + MEASURE before it is shown)
STALE = 2.5

TIE = 0.1  # seconds; two times that differ by no more are told once
NAME_MOST = 24  # columns of a program's name in a table
HEADS = (
    "NAME", "PHASE", "PID", "UP", "CPU", "MEMORY", "IN FLIGHT", "RESTARTS", "LEFT", "",
)  # fmt: skip
RIGHT = ("PID", "CPU", "MEMORY", "IN FLIGHT", "RESTARTS")
LEAST = ("UP", "PID", "RESTARTS", "MEMORY", "CPU")  # left out in this order if there is no room
WRAP_MOST = 4  # lines that one line becomes at most where it does not fit


LEAST_SPAN = 0.1  # seconds; the kernel counts CPU time in hundredths
# seconds in which the use of the CPU is measured, and in which the probes that have been asked
# answer
MEASURE = 0.2

STATES = {  # of proc_pid_stat(5)
    "R": "running", "S": "sleeping", "D": "disk", "T": "stopped", "t": "traced",
    "Z": "zombie", "X": "dead", "I": "idle",
}  # fmt: skip


class Line(Record):
    """One line, and what kind it is: "title", "stop", "program", "detail", "probe", "head",
    "process", "row" (of a table)."""

    text: str
    kind: str
    tone: str = ""  # "good", "busy", "bad"
    below: str = ""  # of a row: what does not fit beside it


class Use(Record):
    """What a process uses."""

    cpu: float | None  # percent of one core
    memory: int  # bytes, resident


class Meter:
    """CPU and memory of processes, by psutil; of none if that is not there, or they are of another
    PID namespace."""

    def __init__(self) -> None:
        self._psutil: Any = None
        try:
            import psutil  # type: ignore[import-untyped]

            self._psutil = psutil
        except ImportError:
            pass
        self._known: dict[int, Any] = {}
        # By the name of a program: its pid, when that was, the seconds of CPU time it had used, and
        # in percent of one core what it used since the time before.
        self._programs: dict[str, tuple[str, float, float, float | None]] = {}

    def cpu(self, status: Mapping[str, Any]) -> dict[str, float]:
        """Return how much CPU programs have used since the last look at each, in percent of one
        core; as gracewrap says."""
        now = figure(status, "uptime_seconds") or 0.0
        for one in programs(status):
            name, pid = word(one, "name"), word(one, "pid")
            used, age = figure(one, "cpu_seconds"), figure(one, "usage_age_seconds")
            before = self._programs.pop(name, None)
            if used is None or age is None:
                continue
            at = now - age
            if before is None or before[0] != pid:
                before = pid, at, used, None
            elif at - before[1] > LEAST_SPAN:
                before = pid, at, used, max(0.0, used - before[2]) / (at - before[1]) * 100
            self._programs[name] = before
        return {name: known[3] for name, known in self._programs.items() if known[3] is not None}

    def look(self, status: Mapping[str, Any], peer_pid: int) -> dict[int, Use]:
        """Return what each process uses since the last look."""
        if self._psutil is None or status.get("pid") != peer_pid:
            return {}
        found: dict[int, Use] = {}
        before, self._known = self._known, {}
        for pid in (one["pid"] for program in programs(status) for one in processes(program)):
            try:
                process: Any = before.get(pid)
                fresh = (
                    process is None or not process.is_running()
                )  # which sees a pid that has been given out again
                process = self._psutil.Process(pid) if fresh else process
                with process.oneshot():
                    cpu, memory = process.cpu_percent(None), process.memory_info().rss
            except (self._psutil.Error, OSError):
                continue
            self._known[pid], found[pid] = process, Use(None if fresh else cpu, memory)
        return found


def describe(
    status: Mapping[str, Any],
    use: Mapping[int, Use],
    cpu: Mapping[str, float] | None = None,
    width: int | None = None,
) -> Iterator[Line]:
    """Yield everything that is known, the most important first.

    Args:
        status: What gracewrap says.
        use: What its processes use.
        cpu: What its programs use, by their names: percent of one core.
        width: The columns that a table may have; None: as many as it needs.
    """
    phase = word(status, "phase") or "?"
    version = f"gracewrap {word(status, 'gracewrap')}".rstrip()
    ready = "ready" if status.get("ready") else f"not ready{_in_brackets(_reason(status))}"
    up = figure(status, "uptime_seconds")
    since = "" if up is None else f"; up {span(up)}"
    yield Line(f"{version}{_pid(status)}: {phase}, {ready}{since}", "title", _tone(status))
    if stop := mapping(status.get("stop")):
        by = word(stop, "requested_by")
        yield Line(f"  stop requested{f' by {by}' if by else ''}: {_times(stop)}", "stop", "busy")
    if part := mapping(status.get("part")):
        names = words(part.get("programs"))
        times = _times(part, "the last SIGKILL" if len(names) > 1 else "SIGKILL")
        yield Line(
            f"  {'restarting' if part.get('again') else 'stopping'} {listed(names)}: {times}",
            "stop",
            "busy",
        )
    yield from _counts(status)
    found = programs(status)
    if len(found) > 1:
        yield from _table(found, cpu or {}, width)
        return
    for program in found:
        yield from _program(
            program, phase, word(status, "why"), use, figure(stop or part or {}, "left_seconds")
        )


def _counts(status: Mapping[str, Any]) -> Iterator[Line]:
    """Yield what has been reaped and forwarded so far, if anything has."""
    reaped, forwarded = figure(status, "zombies_reaped"), figure(status, "signals_forwarded")
    told = [_count(reaped, "zombie", "reaped")] if reaped else []
    told += [_count(forwarded, "signal", "forwarded")] if forwarded else []
    if told:
        yield Line("  " + ", ".join(told), "detail")


def _table(
    found: list[dict[str, Any]], cpu: Mapping[str, float], width: int | None
) -> Iterator[Line]:
    """Yield a line for each of several programs; a column in which nothing would stand is left
    out, and so are, if there is no room, those that matter least.  What a program waits for is
    below it if there is no room beside it."""
    rows = [_row(one, cpu) for one in found]
    wide = [max(len(row[i]) for row in rows) for i in range(len(HEADS))]
    shown = [i for i in range(len(HEADS)) if wide[i]]
    wide = [max(most, len(head)) for most, head in zip(wide, HEADS)]
    last = len(HEADS) - 1  # what it waits for
    for least in LEAST:
        if width and sum(wide[i] + 2 for i in shown if i != last) > width:
            shown = [i for i in shown if HEADS[i] != least]

    def line(cells: Sequence[str]) -> str:
        aligned = (
            cells[i].rjust(wide[i]) if HEADS[i] in RIGHT else cells[i].ljust(wide[i]) for i in shown
        )
        return f"  {'  '.join(aligned)}".rstrip()

    yield Line("", "detail")
    yield Line(line(HEADS), "head")
    for one, row in zip(found, rows):
        text, below = line(row), ""
        if width and len(text) > width:
            text, below = line((*row[:last], "")), row[last]
        yield Line(text, "row", _tone_of(one), below)


def _row(program: Mapping[str, Any], cpu: Mapping[str, float]) -> tuple[str, ...]:
    """Return the cells of a program, in the order of HEADS."""
    up, restarts, left, memory, in_flight = (
        figure(program, key)
        for key in ("uptime_seconds", "restarts", "left_seconds", "memory_bytes", "in_flight")
    )
    used = cpu.get(word(program, "name")) if word(program, "pid") else None
    return (
        _shortened(word(program, "name") or "?", NAME_MOST),
        _phase(program),
        word(program, "pid"),
        "" if up is None else span(up, whole=True),
        "" if used is None else f"{used:.0f}%",
        _bytes(memory) if memory else "",
        _in_flight(program, in_flight),
        number(restarts) if restarts else "",
        "" if left is None else span(left, whole=True),
        _why(program) or word(program, "status_text"),
    )


def _in_flight(program: Mapping[str, Any], known: float | None) -> str:
    """Return what is in flight in a program: a number, "3+" or "?" if not all of its probes can
    tell."""
    if any(_is_unanswered(probe) or _is_unusable(probe) for probe in _probes(program)):
        return f"{number(known)}+" if known else "?"
    return "" if known is None else number(known)


def _is_unusable(probe: Mapping[str, Any]) -> bool:
    return word(probe, "reading") in ("unreachable", "invalid", "failed")


def _is_unanswered(probe: Mapping[str, Any]) -> bool:
    """Return whether a probe has been asked since its last answer, which was some time ago."""
    age = figure(probe, "age_seconds")
    return figure(probe, "asked_seconds") is not None and age is not None and age > STALE


def wrapped(line: Line, width: int) -> list[str]:
    """Return a line in as many as it needs in so many columns, if it is one that matters; at most
    WRAP_MOST of them."""
    from textwrap import wrap

    if line.below:
        indent = " " * 6
        rest = wrap(
            line.below,
            max(width, 20),
            initial_indent=indent,
            subsequent_indent=indent,
            max_lines=WRAP_MOST - 1,
            placeholder=" ...",
        )
        return [line.text, *rest]
    if line.kind not in ("title", "stop", "probe") or len(line.text) <= width:
        return [line.text]
    text = line.text.lstrip()
    indent = " " * min(4, len(line.text) - len(text))
    return wrap(
        text,
        max(width, 20),
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        max_lines=WRAP_MOST,
        placeholder=" ...",
    )


def _phase(program: Mapping[str, Any]) -> str:
    phase = word(program, "phase")
    waits = phase == "running" and program.get("ready") is False and not program.get("waits_for")
    return "not ready" if waits else phase


def _work_left(program: Mapping[str, Any]) -> str:
    """Return what is in flight in a program, of which something is left."""
    return "" if word(program, "phase") in ENDED else word(program, "waiting_for")


def _why(program: Mapping[str, Any]) -> str:
    """Return what a program waits for or is kept by: why it is not as it is to be, and what is in
    flight."""
    soon = figure(program, "next_start_seconds")
    why, waits, in_flight = (
        word(program, "why"),
        _work_left(program),
        program.get("in_flight"),
    )
    if waits == f"in flight {in_flight}":
        waits = ""  # the column says it
    return "; ".join(filter(None, (why, "" if soon is None else f"starts in {span(soon)}", waits)))


def _tone_of(program: Mapping[str, Any]) -> str:
    phase = word(program, "phase")
    if phase in ("killing", "backing off", "failed"):
        return "bad"
    return (
        "good"
        if program.get("ready") and not program.get("waits_for")
        else ""
        if phase in ENDED
        else "busy"
    )


def _program(
    program: Mapping[str, Any], overall: str, told: str, use: Mapping[int, Use], left: float | None
) -> Iterator[Line]:
    """Yield all that is known of one program; what is said above is the phase of all, why it is so,
    and the time *left*."""
    phase = _phase(program)
    shown = f": {phase}" if phase and phase != overall else ""
    command = " ".join(words(program.get("command")))
    named = f"{word(program, 'name') or 'command'}{_pid(program)}{shown}"
    yield Line("", "detail")
    yield Line(f"{named}  {_shortened(command, 100)}".rstrip(), "program")
    yield from _course(program, overall, told, left)
    if said := word(program, "status_text"):
        yield Line(f"  says: {said}", "detail")
    if waits := _work_left(program):
        yield Line(
            f"  in flight: {waits}"
            if overall in ("running", "drained")
            else f"  waits for: {waits}",
            "stop",
            "busy",
        )
    drain = mapping(program.get("drain"))
    if drain is None and phase not in ENDED:
        yield Line(
            "  no drain probe: gracewrap waits for the process to exit",
            "detail",
        )
    for probe in _probes(program):
        yield _probe(probe)
    yield from _processes(processes(program), use)


def _course(
    program: Mapping[str, Any], overall: str, told: str, left_of_all: float | None
) -> Iterator[Line]:
    """Yield why a program is where it is, and what is next; of one that just runs, and of what is
    *told* above, nothing."""
    why, restarts = word(program, "why"), figure(program, "restarts")
    soon, left = figure(program, "next_start_seconds"), figure(program, "left_seconds")
    if why and why != told:
        yield Line(f"  {why}", "stop", "busy")
    if soon is not None:
        yield Line(f"  the next start is in {span(soon)}", "stop", "busy")
    if restarts:
        yield Line(f"  {_count(restarts, 'time', 'started again')}", "detail")
    sooner = left is not None and left_of_all is not None and left_of_all - left > TIE
    if left is not None and (sooner or word(program, "phase") != overall):
        yield Line(f"  {span(left)} until SIGKILL", "stop", "busy")


def _probe(probe: Mapping[str, Any]) -> Line:
    reading = word(probe, "reading")
    in_flight, age, failures = (
        figure(probe, "in_flight"),
        figure(probe, "age_seconds"),
        figure(probe, "failures"),
    )
    parts = [reading if reading not in ("", "none") else "not asked yet"]
    if in_flight is not None and reading != "drained":
        unit = word(probe, "unit") or "in flight"
        one = " or ".join(each.removesuffix("s") for each in unit.split(" and "))
        parts.append(f"{number(in_flight)} {one if in_flight == 1 else unit}")
    text = ", ".join(parts) + _in_brackets(word(probe, "why"))
    answered = figure(probe, "answered_seconds")
    silent = _is_unanswered(probe) and not _is_unusable(probe)
    if age is not None:
        said = f"no answer yet; the last one was {text}, {span(age)} ago"
        text = said if silent else f"{text}; {span(age)} ago"
    if _is_unusable(probe) and answered is not None:
        text += f"; the last answer was {span(answered)} ago"
    if failures:
        text += f"; failed {number(failures)} times" if failures != 1 else "; failed once"
    tone = {"drained": "good", "busy": "busy", "none": "", "": ""}.get(reading, "bad")
    tone = "bad" if silent else tone
    return Line(f"  drain probe {word(probe, 'kind') or '?'}: {text}", "probe", tone)


def _processes(members: list[dict[str, Any]], use: Mapping[int, Use]) -> Iterator[Line]:
    if not members:
        return
    yield Line(
        f"  {'PID':>7}  {'CPU':>5}  {'MEMORY':>8}  {'STATE':<8}  NAME"
        if use
        else f"  {'PID':>7}  {'STATE':<8}  NAME",
        "head",
    )
    for depth, one in _tree(members):
        found = use.get(one["pid"])
        measured = ""
        if use:
            cpu = (
                ""
                if found is None or found.cpu is None
                else f"{found.cpu:.0f}%"
                if found.cpu >= 9.95
                else f"{found.cpu:.1f}%"
            )
            measured = f"{cpu:>5}  {_bytes(found.memory) if found else '':>8}  "
        state = STATES.get(word(one, "state"), word(one, "state"))
        branch = "  " * (depth - 1) + "└ " if depth else ""
        yield Line(
            f"  {one['pid']:>7}  {measured}{state:<8}  {branch}{word(one, 'name') or '?'}",
            "process",
        )


def _tree(members: list[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each process with its depth, parents before their children; each once, whatever the
    parents are said to be."""
    pids = {one["pid"] for one in members}
    below: dict[object, list[dict[str, Any]]] = {}
    for one in members:
        parent = one.get("parent")
        known = isinstance(parent, int) and parent in pids and parent != one["pid"]
        below.setdefault(parent if known else None, []).append(one)
    todo = [(0, one) for one in reversed(below.get(None, []))]
    seen = set()
    while todo:
        depth, one = todo.pop()
        if one["pid"] not in seen:
            seen.add(one["pid"])
            yield depth, one
            todo += [(min(depth + 1, 12), child) for child in reversed(below.get(one["pid"], []))]


def programs(status: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the programs of a status."""
    return mappings(status.get("programs"))


def processes(program: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the processes of a program that have a pid."""
    return [
        one
        for one in mappings(program.get("processes"))
        if isinstance(one.get("pid"), int) and one["pid"] > 0
    ]


def probes(status: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the drain probes of all programs."""
    return [probe for program in programs(status) for probe in _probes(program)]


def commands(status: Mapping[str, Any]) -> str:
    """Return what a gracewrap wraps, for people."""
    found = programs(status)
    if len(found) > 1:
        return _shortened(", ".join(word(program, "name") for program in found), 100)
    each = [" ".join(words(program.get("command"))) for program in found]
    return _shortened(", ".join(filter(None, each)), 100)


def is_drained(status: Mapping[str, Any]) -> bool:
    """Return whether nothing is in flight any more, as the probes say; while it runs undisturbed
    that is no verdict."""
    phase = word(status, "phase")
    if phase in (*UP, "draining", "drained", ""):
        return phase == "drained"
    drains = [drain for program in programs(status) if (drain := mapping(program.get("drain")))]
    return bool(drains) and all(drain.get("drained") is True for drain in drains)


def is_given_up(status: Mapping[str, Any]) -> bool:
    """Return whether a drain without a stop has been given up: the probes are not asked any
    more."""
    drains = [drain for program in programs(status) if (drain := mapping(program.get("drain")))]
    return any(drain.get("given_up") is True for drain in drains)


def waiting_for(status: Mapping[str, Any]) -> str:
    """Return what is being waited for, in a line: "requests 7 → 3"; if nothing is said of it, what
    it is doing."""
    return _waits(status, MOST) or word(status, "phase") or "?"


def _waits(status: Mapping[str, Any], most: int) -> str:
    found = programs(status)
    if len(found) != 1:
        return each([one for one in found if not _is_well(one)], most)
    held = (
        word(found[0], "why") if word(found[0], "phase") != "running" else ""
    )  # what keeps it from being ready is told with that
    return word(found[0], "waiting_for") or held


def _is_well(program: Mapping[str, Any]) -> bool:
    """Return whether nothing is waited for: it is up and ready, or has ended."""
    return (bool(program.get("ready")) and not program.get("waits_for")) or word(
        program, "phase"
    ) in ENDED


def each(found: Sequence[Mapping[str, Any]], most: int = MOST) -> str:
    """Return what is waited for of several programs: "web: requests 7 → 3 · worker: jobs 2 · db
    waits for web and worker".

    Those whose turn it is come before those that wait for them.
    """
    in_turn = sorted(found, key=lambda one: bool(one.get("waits_for")))
    said = [_in_a_line(one) for one in in_turn[:most]]
    return " · ".join(said) + (f" and {len(found) - most} more" if len(found) > most else "")


def _in_a_line(program: Mapping[str, Any]) -> str:
    name, others = word(program, "name"), words(program.get("waits_for"))
    return f"{name} waits for {listed(others, MOST)}" if others else f"{name}: {_said(program)}"


def _said(program: Mapping[str, Any]) -> str:
    parts = word(program, "why"), _work_left(program)
    return ", ".join(filter(None, parts)) or word(program, "phase")


def left_of(status: Mapping[str, Any]) -> str:
    """Return how long there is until the last SIGKILL: "12 s"; "" while no stop was requested."""
    stop = mapping(status.get("stop")) or mapping(status.get("part"))
    left = figure(stop, "left_seconds") if stop else None
    return "" if left is None else span(left, whole=True)


def until_sigkill(status: Mapping[str, Any]) -> str:
    """Return that in words: "12 s until SIGKILL"."""
    left = left_of(status)
    return f"{left} until SIGKILL" if left else ""


def headline(status: Mapping[str, Any]) -> str:
    """Return the state in a line, without what changes with time alone."""
    ready = "ready" if status.get("ready") else f"not ready{_in_brackets(_reason(status))}"
    waits = _waits(status, NAMED_MOST)
    stop = mapping(status.get("stop"))
    by = word(stop, "requested_by") if stop else ""
    return (
        f"{word(status, 'phase') or '?'}, "
        f"{ready}{f': {waits}' if waits else ''}{f'; stop requested by {by}' if by else ''}"
    )


def word(fields: Mapping[str, Any], key: str) -> str:
    """Return a field as text that plays no tricks on a terminal; "" if there is none."""
    value = fields.get(key)
    return (
        one_line(str(value))
        if isinstance(value, str | int | float) and not isinstance(value, bool)
        else ""
    )


def words(value: object) -> list[str]:
    """Return the texts of a list, as word() does; those that are empty are left out."""
    return [text for one in _list(value) if (text := word({"": one}, ""))]


def figure(fields: Mapping[str, Any], key: str) -> float | None:
    """Return a field that is a number."""
    value = fields.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if abs(value) < 1e15 else None  # not for NaN and infinity, which json reads


def span(seconds: float, whole: bool = False) -> str:
    """Return seconds for people: "0.3 s", "12 s", "3 min 12 s", "2 h 3 min", "5 d 2 h"; *whole*: no
    tenths."""
    if seconds < 9.95 and not whole:
        return f"{max(0.0, seconds):.1f} s"
    total = round(max(0.0, seconds))
    for unit, of, next_unit, next_of in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if total >= of:
            return f"{total // of} {unit} {total % of // next_of} {next_unit}"
    return f"{total} s"


def _probes(program: Mapping[str, Any]) -> list[dict[str, Any]]:
    drain = mapping(program.get("drain")) or {}
    return mappings(drain.get("probes"))


def _times(stop: Mapping[str, Any], until: str = "SIGKILL") -> str:
    elapsed, left, budget = (
        figure(stop, f"{key}_seconds") for key in ("elapsed", "left", "budget")
    )
    gone = (
        ""
        if elapsed is None
        else f"{span(elapsed)}{'' if budget is None else f' of {span(budget)}'} gone"
    )
    return ", ".join(filter(None, [gone, "" if left is None else f"{span(left)} until {until}"]))


def _reason(status: Mapping[str, Any]) -> str:
    reason, why = word(status, "reason"), word(status, "why")
    reason = "" if reason == word(status, "phase") else reason
    return ": ".join(filter(None, [reason, why]))


def _tone(status: Mapping[str, Any]) -> str:
    if word(status, "phase") == "killing":
        return "bad"
    return "good" if status.get("ready") else "busy"


def _count(count: float, what: str, done: str) -> str:
    return f"{done} {number(count)} {what}{'s' * (count != 1)}"


def _bytes(count: float) -> str:
    return f"{count / (1 << 20):.0f} MiB" if count < 10 << 30 else f"{count / (1 << 30):.1f} GiB"


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 4] + " ..."


def mapping(value: object) -> dict[str, Any] | None:
    """Return a JSON object that is one."""
    return value if isinstance(value, dict) else None


def mappings(value: object) -> list[dict[str, Any]]:
    """Return the JSON objects of a list."""
    return [one for one in _list(value) if isinstance(one, dict)]


def _pid(fields: Mapping[str, Any]) -> str:
    return _in_brackets(f"pid {pid}" if (pid := word(fields, "pid")) else "")


def _list(value: object) -> Iterable[Any]:
    return value if isinstance(value, list) else []
