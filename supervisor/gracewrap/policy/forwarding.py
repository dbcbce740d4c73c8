"""Who is sent a signal that does not ask for a stop: one that gracewrap has received and passes on,
or one that somebody asks it to send."""

from __future__ import annotations

from gracewrap.policy import log_events
from gracewrap.policy.model import (
    Command,
    Policy,
    ProgramSignalRequested,
    SendGroup,
    SendLeader,
    SignalReceived,
)
from gracewrap.policy.program_phases import Aborting, Phase, PreStop, Running, Stopping

NEVER_FORWARDED = (9, 17, 19)  # SIGKILL, SIGCHLD, SIGSTOP
_LEADERS = (Running, PreStop, Stopping, Aborting)


def route(
    signum: int, policy: Policy, unhandled: frozenset[int] = frozenset()
) -> tuple[SendLeader | SendGroup, ...] | None:
    """Return what is sent for a signal that is passed on, while all leaders are alive; the loop
    does that at once.

    None: it is in stop_on, or is SIGCHLD.  Nothing is sent for one that is dropped, nor to one of
    several programs that has no handler for it (*unhandled*), unless the settings say so: SIGHUP
    for nginx would end the worker beside it.
    """
    if signum in policy.stop_on or signum in NEVER_FORWARDED:
        return None
    return _route(signum, policy, unhandled)


def _route(
    signum: int, policy: Policy, unhandled: frozenset[int]
) -> tuple[SendLeader | SendGroup, ...]:
    return tuple(
        SendGroup(i, sent) if rules.kill_mode == "group" else SendLeader(i, sent)
        for i, rules in enumerate(policy.programs)
        if (sent := rules.signal_map.get(signum, policy.signal_map.get(signum, signum)))
        and not is_spared(i, signum, policy, unhandled)
    )


def is_spared(program: int, signum: int, policy: Policy, unhandled: frozenset[int]) -> bool:
    """Return whether a signal is kept from a program that it would end."""
    said = signum in policy.programs[program].signal_map or signum in policy.signal_map
    return program in unhandled and len(policy.programs) > 1 and not said


def forward(
    programs: tuple[Phase, ...], event: SignalReceived, policy: Policy
) -> tuple[Command, ...]:
    """Pass a signal on to the leaders that are alive (a leader's rest did not ask for signals meant
    for it)."""
    signum = event.signum
    there = [i for i, phase in enumerate(programs) if isinstance(phase, _LEADERS)]
    alive = tuple(
        command for command in _route(signum, policy, event.unhandled) if command.program in there
    )
    spared = tuple(i for i in there if is_spared(i, signum, policy, event.unhandled))
    said = (log_events.Spared(signum, spared),) if spared else ()
    if not alive:
        return said or (log_events.Dropped(signum),)
    return (*alive, log_events.Forwarded(signum, alive[0].signum), *said)


def send_one(
    programs: tuple[Phase, ...], event: ProgramSignalRequested, policy: Policy
) -> tuple[Command, ...]:
    """Send one program a signal that somebody asks for."""
    i, signum = event.program, event.signum
    if not isinstance(programs[i], _LEADERS):
        return ()
    group = policy.programs[i].kill_mode == "group"
    send = SendGroup(i, signum) if group else SendLeader(i, signum)
    return send, log_events.SignalSent(i, signum, event.by)
