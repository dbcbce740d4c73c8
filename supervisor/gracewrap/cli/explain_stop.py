"""What a stop would do, in plain sentences: the end of the output of `gracewrap check`."""

from __future__ import annotations

import os
from collections.abc import Iterator

from gracewrap.cli.format_settings import number
from gracewrap.config import problems
from gracewrap.config.probe_specs import (
    Action,
    AgentProbeSpec,
    CommandAction,
    ExecProbeSpec,
    FileProbeSpec,
    HttpProbeSpec,
    LogLineProbeSpec,
    NotifyProbeSpec,
    ProbeSpec,
    TcpProbeSpec,
)
from gracewrap.config.refused_combinations import reserve
from gracewrap.config.settings import Settings
from gracewrap.config.values import show_duration
from gracewrap.linux.signals import name as signal_name
from gracewrap.policy.model import ProgramPolicy


def story(settings: Settings) -> Iterator[str]:
    """Yield what the stop of one command would do, paragraph by paragraph."""
    it = os.path.basename(settings.command[0]) if settings.command else "the command"
    readiness = (
        ["/readyz says 503"] if settings.health_listen and settings.health_on_stop == "503" else []
    )
    stops = steps(settings, it, settings.shutdown_timeout, _end(settings))
    yield f"On {requests(settings)}: {'; '.join([*readiness, *stops])}."
    if settings.drain:
        yield " ".join(drain(settings, it))
    if settings.is_managed and settings.command:
        from gracewrap.config.to_policy import policy_of

        end = end_of(policy_of(settings).programs[0], several=False)
        yield f"When {it} exits by itself: {end}."


def requests(settings: Settings) -> str:
    """Return the signals that are a stop request, for people."""
    return " or ".join(
        signal_name(signum) for signum in sorted(settings.stop_requests, reverse=True)
    )


def steps(settings: Settings, it: str, limit: float, end: str) -> Iterator[str]:
    """Yield what happens once it is its turn to be stopped.

    Args:
        settings: Of the command.
        it: What it is called.
        limit: Seconds from the stop request to its SIGKILL.
        end: Says when that is.
    """
    yield from _before(settings, it)
    yield from _ladder(settings, it, limit, end)


def _end(settings: Settings) -> str:
    if settings.stop_timeout is not None and settings.stop_timeout < settings.shutdown_timeout:
        return f"after {show_duration(settings.stop_timeout)}"
    return f"{show_duration(settings.shutdown_timeout)} after the request"


def _before(settings: Settings, it: str) -> Iterator[str]:
    """Yield what comes before the stop signal."""
    for action in (settings.pre_stop, settings.drain_start):
        if action:
            yield _done(action)
    if settings.propagation_delay:
        yield f"{it} keeps serving for {show_duration(settings.propagation_delay)}"


def _done(action: Action) -> str:
    limit = f" (for {show_duration(action.timeout)} at most)" if action.timeout is not None else ""
    if isinstance(action, CommandAction):
        return f"{os.path.basename(action.command[0])} is run{limit}"
    return f"{action.request.method} {action.request.url.shown} is sent{limit}"


def _ladder(settings: Settings, it: str, limit: float, end: str) -> Iterator[str]:
    """Yield the stop signal and what follows it."""
    who = {
        "group": f"the process group of {it}",
        "mixed": f"{it}, then to what it leaves behind",
    }.get(settings.kill_mode, it)
    yield f"{signal_name(settings.stop_signal)} goes to {who}{_held_back(settings, limit)}"
    for after, signum in settings.escalation:
        yield f"after {show_duration(after)} {signal_name(signum)}"
    yield f"{end} what is left is killed"
    if settings.post_stop:
        yield f"when everything has ended, {_done(settings.post_stop)}"


def _held_back(settings: Settings, limit: float) -> str:
    """Return how long the stop signal waits for the drain; "" if it does not."""
    if not settings.drain or settings.drain_when != "before-signal":
        return ""
    kept = reserve(limit, settings.stop_timeout)
    latest = f"{show_duration(max(0.0, limit - kept))} after the request"
    if settings.drain_timeout is not None:
        latest = f"after {show_duration(settings.drain_timeout)} of draining, or {latest}"
    return f", once it is drained, but no later than {latest}"


def drain(settings: Settings, it: str) -> Iterator[str]:
    """Yield what drained means, and what follows from it."""
    assert settings.drain is not None
    joined = " and " if settings.drain.combine == "all" else " or "
    when = joined.join(_seen(probe, it) for probe in settings.drain.probes)
    often = f"{settings.drain_confirm} times in a row, " if settings.drain_confirm > 1 else ""
    yield f"Drained means: {when} ({often}asked every {show_duration(settings.drain_interval)})."
    if settings.drain_min_drain:
        yield f"Answers in the first {show_duration(settings.drain_min_drain)} do not count."
    if settings.drain_streams == float("inf"):
        yield "gracewrap waits for streams as long as there is time."
    elif settings.drain_streams is not None:
        yield f"gracewrap waits for streams for at most {show_duration(settings.drain_streams)}."
    if settings.drain_linger is None:
        yield (
            "If it is drained but still running, gracewrap waits until the deadline "
            "(linger is off)."
        )
    else:
        yield (
            f"If it is drained and still running {show_duration(settings.drain_linger)} later, "
            "it is killed then."
        )


def end_of(rules: ProgramPolicy, several: bool) -> str:
    """Return what follows when a program exits by itself, for people."""
    from gracewrap.policy import restart

    good, bad = (restart.verdict(rules, restart.ProgramRecord(), status) for status in (0, 1))
    failed = _follows(bad, rules, several, rules.on_failure)
    if rules.oneshot:
        return f"it runs once; if it fails, {failed}"
    if good == bad and (good != "restart" or rules.on_exit == rules.on_failure):
        return failed
    return (
        f"if it fails, {failed}; if it exits with 0, "
        f"{_follows(good, rules, several, rules.on_exit)}"
    )


def _follows(verdict: str, rules: ProgramPolicy, several: bool, then: str) -> str:
    """Return a verdict of policy.restart in words; *then* is what follows when it is no longer
    restarted."""
    others = (
        {"ignore": "the others keep running"}.get(verdict, "all are stopped, in order")
        if several
        else "gracewrap exits too"
    )
    if verdict != "restart":
        return others
    wait, again = rules.back_off, f"it is restarted after {show_duration(rules.back_off.first)}"
    if wait.factor > 1 and wait.cap > wait.first:
        again += f", then longer each time, up to {show_duration(wait.cap)}"
    if rules.max_restarts is None:
        return again
    others = "the others keep running" if several and then == "ignore" else others
    return f"{again}, {rules.max_restarts} times in a row at most (then {others})"


def sign_of_readiness(probe: ProbeSpec) -> str:
    """Return what shows that a program is ready, for people."""
    match probe:
        case TcpProbeSpec(ports):
            return f"it listens on port {', '.join(map(str, ports))}" if ports else "it listens"
        case LogLineProbeSpec(log_line):
            return f"it writes a line with {problems.show(log_line)}"
        case NotifyProbeSpec():
            return "it says so (READY=1)"
        case _:
            return _seen(probe, "it")


def _seen(probe: ProbeSpec, it: str) -> str:
    match probe:
        case HttpProbeSpec(request, expect):
            where = f"{request.method} {request.url.shown}"
            if expect.how == "status":
                return f"{where} answers {expect.status}"
            limit = expect.equals if expect.at_most is None else expect.at_most
            exact = isinstance(limit, bool | str)
            value = f"{'' if exact else 'at most '}{problems.show(number(limit))}"
            return f"{where} says {value} at {expect.what}"
        case TcpProbeSpec(ports, mode):
            which = (
                f"port {', '.join(map(str, ports))}" if ports else "the ports that it listens on"
            )
            return {
                "listener-closed": f"nothing listens on {which} any more",
                "no-connections": f"there is no connection to {which}",
            }.get(mode, f"no connection to {which} has a request in flight")
        case ExecProbeSpec(command):
            return f"{os.path.basename(command[0])} prints 0, or no number and exits with 0"
        case AgentProbeSpec():
            return "its agent counts no request and no job"
        case FileProbeSpec(path, state, contains):
            holds = f" and holds {problems.show(contains)}" if contains else ""
            return f"{path} {'exists' if state == 'exists' else 'is gone'}{holds}"
        case _:
            return f"{it} says so (X_GRACEWRAP=drained)"
