"""The settings that the stops of reports ask for, each with its reason and figure."""

from __future__ import annotations

import json
import math
import os
import re
import shlex

from gracewrap.config.apply_preset import path_of
from gracewrap.config.parsers.preset_names import PRESETS
from gracewrap.config.printable import printable
from gracewrap.config.recognise_command import recognised
from gracewrap.config.toml_file import read_toml
from gracewrap.config.values import BadValue, duration
from gracewrap.learn import observed_stops
from gracewrap.linux import signals
from gracewrap.picture import past_stop
from gracewrap.picture.chart import shown
from gracewrap.record import TYPE_CHECKING, Record, replace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gracewrap.learn.observed_stops import Load, Stop, Watched

    Entry = Mapping[str, object]

MARGIN = 1.5  # times the longest that was seen
FLUSH = 1.0  # seconds; the flush_timeout that is the default
EXIT = 5.0  # seconds between the budget and the platform's SIGKILL
FEW = 5  # stops; fewer say little about the longest
TIGHT = 0.8  # of the budget
QUIET = 3.0  # seconds that a drain needs after the last request, with the default drain.quiet
LINGER = 1.0  # seconds for a program that is drained to exit by itself
DELAY = 5.0  # propagation_delay in seconds when the reports do not show how much is needed
ANY = "any-http-server"
BARE = re.compile("[A-Za-z0-9_-]+").fullmatch  # a key that TOML takes without quotes


class Line(Record):
    """One setting, or (no *name*) a remark."""

    why: str
    program: str = ""  # "": the one command, or all of them
    name: str = ""
    value: str = ""  # as TOML
    unsettled: bool = False  # the stops do not say what is needed


class Preset(Record):
    """What a preset says about times and signals; "" as its name: there is none."""

    name: str = ""
    budget: float = 0.0
    tail: float = 0.0  # seconds from its first rung to the end of the budget
    linger: float = 0.0
    signal: str = "TERM"
    codes: tuple[str, ...] = ()  # its success_exit_codes


def learn(seen: Watched) -> list[Line]:
    """Return the settings for what was watched."""
    programs: dict[str, list[Stop]] = {}
    proved = any(one.finished for one in seen.loads)
    is_http = any(not one.jobs for one in seen.loads)
    for report in seen.reports:
        for stop in observed_stops.stops(report):
            one = replace(stop, unproved=is_http and not proved and not _dies_well(stop))
            programs.setdefault(stop.name, []).append(one)
    cut = sum(one.in_flight for one in seen.loads)
    presets = {name: _preset(found, seen.loads) for name, found in programs.items()}
    later = _later(seen)
    request = _longest(seen.loads) if "" in programs else 0.0  # else whose it is, nobody knows
    lines = [*_different(programs), *_lost(seen.loads)]
    if "" in programs:
        lines += _named(programs[""], presets[""], cut)
    lines += _budget(seen, programs, presets, later)
    lines += _delay(seen)
    for name, found in programs.items():
        if name:
            lines += _named(found, presets[name], cut)
        lines += _program(name, found, presets[name], cut, later, request)
    return lines


def _preset(stops: Sequence[Stop], loads: Sequence[Load]) -> Preset:
    """Return the preset that a program needs, or has had."""
    name = recognised(stops[0].command)
    cut = any(one.in_flight for one in loads)
    # What drains before the signal has done so, or the drain of a preset came too late for it.
    first = any(one.drained or (one.at_once and one.probes) for one in stops)
    if name in ("", ANY) or (loads and first):
        # That it answers HTTP is known from a drill only.
        needs = first or cut or any(one.at_once for one in stops)
        is_http = any(not one.jobs for one in loads)
        return _read(ANY) if is_http and needs else Preset()
    preset = _read(name)
    # One that ends what is drained is not for a program that stops well without it.
    needs = cut or any(one.killed or one.died or one.probes or one.cut for one in stops)
    return preset if needs or not preset.linger else Preset()


def _dies_well(stop: Stop) -> bool:
    """Return whether its preset says that it dies of the stop signal when it has finished."""
    known = recognised(stop.command)
    return bool(known) and stop.signal.removeprefix("SIG") in _read(known).codes


def _read(name: str) -> Preset:
    """Return what the file of a preset says."""
    given, _ = read_toml(path_of(name), name, {})
    said = {one.key: one.raw for one in given}
    budget = _seconds(said.get("shutdown_timeout", "25s"))
    rungs, codes = said.get("escalation"), said.get("success_exit_codes")
    first = _seconds(rungs[0]["after"]) if isinstance(rungs, list) and rungs else budget
    return Preset(
        name,
        budget,
        budget - first,
        _seconds(said.get("drain.linger", "0s")),
        str(said.get("stop_signal", "TERM")),
        tuple(map(str, codes)) if isinstance(codes, list) else (),
    )


def _seconds(raw: object) -> float:
    try:
        return duration(raw)
    except BadValue:
        return 0.0


def _different(programs: Mapping[str, Sequence[Stop]]) -> Iterator[Line]:
    """Yield that the stops are of different commands, whose times do not belong together."""
    if "" in programs and len(programs) > 1:
        names = ", ".join(filter(None, programs))
        yield Line(f"stops of one command and of several programs ({names}) are mixed here, and so "
                   "are their times: learn from each by itself", unsettled=True)  # fmt: skip
    for name, stops in programs.items():
        found = {_kind(one.command): shlex.join(one.command) for one in stops if one.command}
        if len(found) > 1:
            what = f"of different commands as {name}" if name else "of different commands"
            yield Line(f"stops {what} are mixed here, and so are their times: learn from each by "
                       f"itself ({'; '.join(found.values())})", unsettled=True)  # fmt: skip


def _kind(command: Sequence[str]) -> tuple[str, ...]:
    """Return what two runs of a command have in common: each drill has a free port, and where the
    program is found does not matter."""
    words = (os.path.basename(command[0]), *command[1:])
    return tuple(re.sub(r"(?<!\d)\d{4,5}(?!\d)", "PORT", word) for word in words)


def _lost(loads: Sequence[Load]) -> Iterator[Line]:
    """Yield what became of the requests."""
    if not loads:
        return
    cut, late = sum(one.in_flight for one in loads), sum(one.late for one in loads)
    what = "jobs" if all(one.jobs for one in loads) else "requests"
    of = f"of {sum(one.sent for one in loads)} {what} in {_counted(loads, 'stop')}"
    if twice := sum(one.twice for one in loads):
        yield Line(f"{twice} {of} were done twice", unsettled=True)
    if not cut + late:
        yield Line(f"none {of} was lost")
        return
    yield Line(f"{cut + late} {of} were lost, {cut} in flight at the stop request and {late} that "
               "came after it: hold the drill again with this file", unsettled=True)  # fmt: skip


def _named(stops: Sequence[Stop], preset: Preset, cut: int) -> Iterator[Line]:
    """Yield the preset for a program."""
    if not preset.name:
        return
    what, lost = PRESETS[preset.name]
    program = stops[0].name
    killed = sum(one.killed for one in stops)
    if cut:
        seen = f"; {cut} in flight were cut in {_counted(stops, 'stop')}"
    elif killed:
        seen = f"; SIGKILL ended it in {killed} of {_counted(stops, 'stop')}"
    else:
        seen = ""
    without = f": without it, {lost}" if lost else ""
    yield Line(f"for {what}{without}{seen}", program, "preset", json.dumps(preset.name))


def _later(seen: Watched) -> float:
    """Return how much longer work can go on after propagation_delay than in the stops that were
    watched, since it was longer there than it needs to be."""
    if not seen.loads:
        return 0.0
    shorter = _served(seen) - _needed_delay(seen)
    drains = any(one.probes for report in seen.reports for one in observed_stops.stops(report))
    longest = max(one.longest for one in seen.loads) + QUIET * drains
    return max(0.0, min(shorter, longest))


def _budget(
    seen: Watched,
    programs: Mapping[str, Sequence[Stop]],
    presets: Mapping[str, Preset],
    later: float,
) -> Iterator[Line]:
    """Yield the settings of the whole stop; *later*: of _later()."""
    reports, loads = seen.reports, seen.loads
    used = max(past_stop.number(report, "used_seconds") for report in reports)
    given = max(past_stop.number(report, "budget_seconds") for report in reports)
    everyone = [one for found in programs.values() for one in found]
    if any(one.in_flight for one in loads) or any(
        one.at_once or one.left_work or one.ignored for one in everyone
    ):
        yield from _void(reports, max(given, *(one.budget for one in presets.values())))
        return
    killed = [one for one in everyone if one.killed and not one.held]
    held = [one for one in everyone if one.held]
    working = max(max(map(_worked, reports)) + later, _longest(loads))
    delay = max(_needed_delay(seen), room := _room(loads))
    tail = max(one.tail for one in presets.values())
    needed = _whole(working) + FLUSH + len(programs) + delay + tail
    if killed:
        # The longest is not known: a program that was killed is given its time once more.
        longest = max(one.took for one in killed)
        needed = max(needed, _whole(used + longest))
    part = f", {used / given:.0%} of the budget of {shown(given)}" if given else ""
    tight = ": that is tight" if given and used > TIGHT * given and not held else ""
    what = f"the longest of {_counted(reports, 'stop')} took {shown(used)}{part}{tight}"
    if room:
        what += f"; with room for a propagation_delay of {shown(delay)}, which is usual"
    yield Line(what, name="shutdown_timeout", value=_toml(needed), unsettled=bool(killed))
    yield from _few(reports)
    yield _grace(needed)


def _room(loads: Sequence[Load]) -> float:
    """Return the propagation_delay that has to fit, if nobody has said how the balancer behaves
    before which it will run: the one that a drill plays by itself is quick."""
    return DELAY if any(not one.jobs and not one.chosen for one in loads) else 0.0


def _longest(loads: Sequence[Load]) -> float:
    """Return how long the longest request took: one may begin just before the stop signal."""
    return max((one.longest for one in loads), default=0.0)


def _void(reports: Sequence[Entry], budget: float) -> Iterator[Line]:
    """Yield what stops say about the budget that cut what was in flight."""
    few = _counted(reports, "stop")
    yield Line(f"the times of {few} in which work was cut, or would have been, or the stop signal "
               "was ignored, do not say what is needed: shutdown_timeout and stop_timeout stay as "
               "they are", unsettled=True)  # fmt: skip
    yield _grace(budget)


def _few(reports: Sequence[Entry]) -> Iterator[Line]:
    if len(reports) < FEW:
        few = _counted(reports, "stop")
        yield Line(f"the longest of {few} may not be the longest there is; watch {FEW} or more")


def _grace(budget: float) -> Line:
    return Line(
        f"ask the platform for a grace period of {shown(budget + EXIT)} or more "
        f"(the budget, and {shown(EXIT)} to be on the safe side)"
    )


def _worked(report: Entry) -> float:
    """Return how long a stop took without propagation_delay, and without the time in which a
    program was drained and did not exit."""
    found = list(observed_stops.stops(report))
    idle = min((one.lingered or 0.0) - LINGER if one.held else 0.0 for one in found)
    return past_stop.number(report, "used_seconds") - observed_stops.served(report) - max(0.0, idle)


def _delay(seen: Watched) -> Iterator[Line]:
    """Yield propagation_delay: also that none is needed, where the preset has one."""
    loads = seen.loads
    if not loads:
        yield Line("propagation_delay: reports do not say when the last new connection came; "
                   "gracewrap drill --json does")  # fmt: skip
        return
    last, delay = max(one.last_new for one in loads), _needed_delay(seen)
    late, value = sum(one.late for one in loads), _toml(delay)
    if any(one.to_the_end for one in loads):
        why = (
            f"new connections came until it was gone, {shown(last)} after the stop request; when "
            "the last one comes was not seen: hold the drill again with this file"
            f"{_played(loads)}"
        )
        yield Line(why, name="propagation_delay", value=value, unsettled=True)
    elif last:
        why = f"the last new connection came {shown(last)} after the stop request"
        lost = f"; {late} requests that came after it were lost" if late else ""
        yield Line(why + lost + _played(loads), name="propagation_delay", value=value)
    elif all(one.jobs for one in loads):
        if _served(seen):
            yield Line("jobs come by no connection", name="propagation_delay", value=value)
    elif _served(seen):
        stays = f"; it stays as it was, watch {FEW} or more" if delay else ""
        why = f"no new connection came after the stop request in {_counted(loads, 'stop')}{stays}"
        why += _played(loads)
        yield Line(why, name="propagation_delay", value=value)
    else:
        yield Line("propagation_delay: no new connection came after the stop request"
                   f"{_played(loads)}")  # fmt: skip


def _played(loads: Sequence[Load]) -> str:
    """Return whose delay it is, to go after what was seen."""
    played = {one.balancer: one for one in loads if not one.jobs}
    names = " and ".join(sorted(filter(None, played)))
    if all(one.chosen for one in played.values()):
        return f" (--balancer {names})" if names else ""
    what = f"the balancer that the drill played ({names})" if names else "what the drill sent"
    return (
        f". That is {what}, not your orchestrator's: {shown(DELAY)} is usual there, or hold the "
        "drill with a --balancer that is like it"
    )


def _needed_delay(seen: Watched) -> float:
    """Return how long it has to serve on after the stop request."""
    loads = seen.loads
    if not loads:
        return float(math.ceil(_served(seen)))
    last = max(one.last_new for one in loads)
    # Who asks for readiness from time to time notices at any moment of that time: that nobody came
    # in a few stops may be luck.
    few = len(loads) < FEW
    found = max(1.0, math.ceil(4 * last) / 2) if few and last else _rounded(last)
    if any(one.to_the_end for one in loads):
        return max(DELAY, found)
    if few and not last and any(not one.jobs for one in loads):
        return math.ceil(2 * _served(seen) - 0.2) / 2
    return found


def _served(seen: Watched) -> float:
    """Return for how long it served on at most, in the stops that were watched."""
    return max(map(observed_stops.served, seen.reports))


def _program(
    name: str, stops: Sequence[Stop], preset: Preset, cut: int, later: float, request: float
) -> Iterator[Line]:
    """Yield the settings of one program; *later*: of _later(), *request*: of _longest()."""
    at_once = [one for one in stops if one.at_once]
    if at_once and not preset.name:
        what = (
            "what it was doing then was lost; if it is an HTTP server, use preset any-http-server"
        )
        yield Line(f"{at_once[0].signal} ended it in {len(at_once)} of {_counted(stops, 'stop')}, "
                   f"{what}", name, unsettled=True)  # fmt: skip
    left_work = [one for one in stops if one.left_work]
    if left_work:
        yield _before_signal(name, stops, left_work)
    ignored = [one for one in stops if one.ignored]
    if ignored:
        yield Line(f"{ignored[0].ignored}; so SIGKILL ended it in {len(ignored)} of "
                   f"{_counted(stops, 'stop')}, and more time would not help: set the stop_signal "
                   "that it handles", name, unsettled=True)  # fmt: skip
    if cut or at_once or left_work or ignored:
        return
    yield from _signal(name, stops, preset)
    yield _stop_timeout(name, stops, preset, later, request)
    yield from _codes(name, stops, preset)
    yield from _linger(name, stops, preset)


def _before_signal(name: str, stops: Sequence[Stop], left_work: Sequence[Stop]) -> Line:
    """Return drain.when for a program that exits at once, with work in flight."""
    cut = sum(one.cut for one in left_work)
    why = (
        f"it exited by itself in {len(left_work)} of {_counted(stops, 'stop')} with work in "
        f"flight, and {cut:g} in flight were cut"
    )
    if not any(one.probes for one in stops):
        return Line(f"{why}: it needs a drain before the signal", name, unsettled=True)
    why += ": drain it first, and watch it again"
    return Line(why, name, "drain.when", '"before-signal"', unsettled=True)


def _signal(name: str, stops: Sequence[Stop], preset: Preset) -> Iterator[Line]:
    """Yield stop_signal, if the stops agree and the preset does not know better."""
    first = {one.sent[0].removeprefix("SIG") for one in stops if one.sent}
    if len(first) != 1 or any(one.killed for one in stops):
        return
    (signal,) = first
    seen = f"SIG{signal} in {_counted(stops, 'stop')}, and SIGKILL cut nothing"
    if signal != "TERM":
        yield Line(seen, name, "stop_signal", json.dumps(signal))
    elif preset.signal == "TERM":
        yield Line(f"stop_signal: {seen}", name)


def _stop_timeout(
    name: str, stops: Sequence[Stop], preset: Preset, later: float, request: float
) -> Line:
    seen = _counted(stops, "stop")
    killed = [one for one in stops if one.killed and not one.held]
    if killed:
        longest = max(one.took for one in killed)
        cut = sum(one.cut for one in killed)
        lost = f", {cut:g} in flight cut" if cut else ""
        why = (
            f"SIGKILL ended it in {len(killed)} of {seen}, {shown(longest)} after the stop "
            f"signal{lost}; twice that time, watch it again"
        )
        value = _toml(math.ceil(2 * longest) or 1)
        return Line(why, name, "stop_timeout", value, unsettled=True)
    longest = max(one.took - (one.lingered or 0.0) * one.held for one in stops)
    longest += LINGER * any(one.held for one in stops)
    end = "until it was drained" if any(one.held for one in stops) else "to its end"
    rung = f"; {shown(preset.tail)} more for the preset's escalation" if preset.tail else ""
    delay = f"; {shown(later)} more for the shorter propagation_delay" if later >= 0.01 else ""
    why = f"the longest of {seen} took {shown(longest)} from the stop signal {end}{delay}{rung}"
    needed = longest + later
    if request > needed and not any(one.drained for one in stops):
        # One may begin just before the signal; what is drained before it has ended.
        needed = request
        why += f"; the longest request took {shown(request)}"
    return Line(why, name, "stop_timeout", _toml(_whole(needed) + preset.tail))


def _codes(name: str, stops: Sequence[Stop], preset: Preset) -> Iterator[Line]:
    """Yield success_exit_codes."""
    well = [one for one in stops if not (one.killed or one.ended_early)]
    own = {one.status or 0 for one in well if one.drained or one.died or not one.signal}
    known = {f"SIG{one}" for one in preset.codes}
    good = sorted(one for one in own if one > 128 and signals.name(one - 128) not in known)
    if good:
        why = f"it ends so when it is stopped and not killed, as seen in {_counted(stops, 'stop')}"
        yield Line(why, name, "success_exit_codes", str(good))


def _linger(name: str, stops: Sequence[Stop], preset: Preset) -> Iterator[Line]:
    """Yield drain.linger, if a drain was watched after the stop signal."""
    seen = _counted(stops, "stop")
    held = [one for one in stops if one.held]
    early = [one.lingered or 0.0 for one in stops if one.ended_early]
    own = [
        one.lingered
        for one in stops
        if one.lingered is not None and not one.held and not one.ended_early
    ]
    if held:
        longest = shown(max(one.lingered or 0.0 for one in held))
        why = (
            f"it was drained and did not exit in {len(held)} of {seen}: SIGKILL came {longest} "
            "later, when its time was up; if it works on something then, leave this out"
        )
        yield from _probe(name, stops, preset)
        value = _toml(max(LINGER, *map(_rounded, own), 0.0))
        yield Line(why, name, "drain.linger", value, unsettled=True)
    elif early:
        why = (
            f"it was drained and did not exit in {len(early)} of {seen}: SIGKILL came "
            f"{shown(max(early))} later, and nothing was cut"
        )
        yield from _probe(name, stops, preset)
        found = max(round(max(early), 1), 0.1, *map(_rounded, own), 0.0)
        yield Line(why, name, "drain.linger", _toml(found))
    elif own:
        most = max(own)
        why = f"it exits by itself, at most {shown(most)} after it is drained, in {seen}"
        if preset.linger and MARGIN * most > preset.linger:
            yield Line(why, name, "drain.linger", _toml(_rounded(most)))
        else:
            yield Line(f"drain.linger: {why}", name)


def _probe(name: str, stops: Sequence[Stop], preset: Preset) -> Iterator[Line]:
    """Yield the drain that found it drained, if a report says all of it: linger needs one."""
    if not preset.name and all(one.probes == ("tcp",) for one in stops):
        yield Line("what found it drained", name, "drain.tcp", '"auto"')


def _whole(seconds: float) -> float:
    """Return a time with the margin, in whole seconds; a busy machine needs two for anything."""
    return max(2.0, float(math.ceil(MARGIN * seconds)))


def _rounded(seconds: float) -> float:
    """Return a delay with the margin, in half seconds; 0.0 for none."""
    return math.ceil(2 * MARGIN * seconds) / 2 if seconds > 0 else 0.0


def _toml(seconds: float) -> str:
    return f'"{seconds:g}s"'


def _counted(what: Sequence[object], name: str) -> str:
    return f"{len(what)} {name}{'' if len(what) == 1 else 's'}"


def toml(lines: Sequence[Line]) -> str:
    """Return the lines as TOML, each reason in a comment above its setting."""
    text: list[str] = []
    program, several = "", any(line.program for line in lines)
    for line in lines:
        if line.program != program:
            program = line.program
            text += ["", f"[programs.{program if BARE(program) else json.dumps(program)}]"]
        elif several and line.name == "propagation_delay":
            text += ["", "[defaults]"]  # of several programs it is a setting of each
        text.append(f"# {printable(line.why)}")
        if line.name:
            text.append(f"{line.name} = {line.value}")
    return "\n".join(text) + "\n"
