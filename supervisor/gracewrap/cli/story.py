"""What a stop would be, in plain sentences: what `gracewrap check` ends with."""

from __future__ import annotations

import os
from collections.abc import Iterator

from gracewrap.cli.written import number
from gracewrap.config import sources
from gracewrap.config.probe import Action, CommandAction, ExecProbe, FileProbe, HttpProbe, Probe, TcpProbe
from gracewrap.config.table import Settings
from gracewrap.config.together import reserve
from gracewrap.config.values import show_duration
from gracewrap.posix.signals import name as signal_name


def story(settings: Settings) -> Iterator[str]:
    """Yield what a stop would be, one paragraph after another."""
    it = os.path.basename(settings.command[0]) if settings.command else "the command"
    requests = " or ".join(signal_name(signum) for signum in sorted(settings.stop_on, reverse=True))
    yield f"On {requests}: {'; '.join([*_before(settings, it), *_ladder(settings, it)])}."
    if settings.drain:
        yield " ".join(_drain(settings, it))


def _before(settings: Settings, it: str) -> Iterator[str]:
    """Yield what comes before the stop signal."""
    if settings.health_listen and settings.health_on_stop == "503":
        yield "/readyz says 503"
    for action in (settings.pre_stop, settings.drain_start):
        if action:
            yield _done(action)
    if settings.propagation_delay:
        yield f"{it} goes on serving for {show_duration(settings.propagation_delay)}"


def _done(action: Action) -> str:
    limit = f" (for {show_duration(action.timeout)} at most)" if action.timeout is not None else ""
    if isinstance(action, CommandAction):
        return f"{os.path.basename(action.command[0])} is run{limit}"
    return f"{action.request.method} {action.request.url.shown} is sent{limit}"


def _ladder(settings: Settings, it: str) -> Iterator[str]:
    """Yield the stop signal and what follows it."""
    who = {"group": f"the process group of {it}", "mixed": f"{it}, then to what it leaves behind"}.get(settings.kill_mode, it)
    yield f"{signal_name(settings.stop_signal)} goes to {who}{_held_back(settings)}"
    for after, signum in settings.escalation:
        yield f"after {show_duration(after)} {signal_name(signum)}"
    if settings.stop_timeout is not None and settings.stop_timeout < settings.shutdown_timeout:
        yield f"after {show_duration(settings.stop_timeout)} what is left is killed"
    else:
        yield f"{show_duration(settings.shutdown_timeout)} after the request what is left is killed"
    if settings.post_stop:
        yield f"when all is over, {_done(settings.post_stop)}"


def _held_back(settings: Settings) -> str:
    """Return how long the stop signal waits for the drain; "" if it does not."""
    if not settings.drain or settings.drain_when != "before-signal":
        return ""
    kept = reserve(settings.shutdown_timeout, settings.stop_timeout)
    latest = f"{show_duration(max(0.0, settings.shutdown_timeout - kept))} after the request"
    if settings.drain_timeout is not None:
        latest = f"when {show_duration(settings.drain_timeout)} were not enough for that, or {latest}"
    return f", once it is drained, at the latest {latest}"


def _drain(settings: Settings, it: str) -> Iterator[str]:
    """Yield what drained means, and what comes of it."""
    assert settings.drain is not None
    joined = " and " if settings.drain.combine == "all" else " or "
    when = joined.join(_seen(probe, it) for probe in settings.drain.probes)
    often = f"{settings.drain_confirm} times in a row, " if settings.drain_confirm > 1 else ""
    yield f"Drained means: {when} ({often}asked every {show_duration(settings.drain_interval)})."
    if settings.drain_min_drain:
        yield f"No answer counts in the first {show_duration(settings.drain_min_drain)}."
    if settings.drain_linger is None:
        yield "If it is drained and still running, it keeps the rest of its time (linger is off)."
    else:
        yield f"If it is drained and still running {show_duration(settings.drain_linger)} later, it is killed then."


def _seen(probe: Probe, it: str) -> str:
    match probe:
        case HttpProbe(request, expect):
            where = f"{request.method} {request.url.shown}"
            if expect.how == "status":
                return f"{where} answers {expect.status}"
            limit = expect.equals if expect.at_most is None else expect.at_most
            exact = isinstance(limit, bool | str)
            value = f"{'' if exact else 'at most '}{sources.show(number(limit))}"
            return f"{where} says {value} at {expect.what}"
        case TcpProbe(ports, mode):
            which = f"port {', '.join(map(str, ports))}" if ports else "the ports that it listens on"
            return {
                "listener-closed": f"nobody listens on {which} any more",
                "no-connections": f"there is no connection to {which}",
            }.get(mode, f"no connection to {which} has a request in flight")
        case ExecProbe(command):
            return f"{os.path.basename(command[0])} exits with 0"
        case FileProbe(path, state, contains):
            holds = f" and holds {sources.show(contains)}" if contains else ""
            return f"{path} {'exists' if state == 'exists' else 'is gone'}{holds}"
        case _:
            return f"{it} says so (X_GRACEWRAP=drained)"
