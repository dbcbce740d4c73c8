"""One program's stop: held while it is drained, leader signalled, stop signals escalated, the rest
told, SIGKILL, gone.  Its phases are in program_phases.py.  Pure.

Held is what comes before the stop signal: the pre_stop hook, the propagation delay, the start of
the drain, and with `when = "before-signal"` the drain itself.
"""

from __future__ import annotations

from gracewrap.policy import drain as draining
from gracewrap.policy import held_up_looks, log_events
from gracewrap.policy.drain import Drain
from gracewrap.policy.model import (
    SIGCONT,
    SIGTSTP,
    SIGTTIN,
    SIGTTOU,
    AgentsTold,
    Command,
    Examine,
    Examined,
    HelperEnded,
    KilledSeen,
    KillProgram,
    LeaderExited,
    Look,
    ProgramPolicy,
    RunHelper,
    Sampled,
    SendDump,
    SendGroup,
    SendLeader,
    SendTo,
    StopHelper,
    TellAgents,
    TreeSeen,
    Watch,
)
from gracewrap.policy.program_phases import (
    AGENT_LIMIT,
    EARLY,
    FOREVER,
    KILL_AGAIN,
    KILLED,
    NO_REQUEST,
    OUT_OF_TIME,
    RESERVE,
    RESERVE_PART,
    START_LIMIT,
    Aborting,
    BackingOff,
    Drained,
    Draining,
    Gone,
    Killing,
    Pending,
    Phase,
    PreStop,
    Running,
    Spawning,
    Stage,
    Starting,
    Step,
    Stopping,
    Stragglers,
    Waiting,
    _end_of_time,
    _linger_ends,
    deadline,
)
from gracewrap.record import assert_never, replace


def spawned(phase: Phase, program: int) -> Step:
    """The leader has been spawned; if it was to be killed meanwhile, it is."""
    match phase:
        case Spawning():
            return Running(), ()
        case Killing():
            return phase, (KillProgram(program),)
        case Pending() | BackingOff() | Running() | PreStop():
            return phase, ()
        case Stopping() | Aborting() | Stragglers() | Gone():
            return phase, ()
        case _:
            assert_never(phase)


def start_failed(phase: Phase, program: int, status: int) -> Step:
    """The leader could not be spawned, or has not become its command: there is nothing of it."""
    match phase:
        case Spawning() | Running() | PreStop() | Stopping() | Aborting():
            return Gone(status), _end(phase, program)
        case Killing():
            return Gone(status), ()
        case Stragglers() | Pending() | BackingOff() | Gone():
            return phase, ()
        case _:
            assert_never(phase)


def hold(phase: Phase, program: int, policy: ProgramPolicy, at: float) -> Step:
    """Drain a program, and do not stop it."""
    if not isinstance(phase, Running):
        return phase, ()
    held = PreStop(at, Waiting(at + policy.propagation_delay, False))
    after, commands = _go_on(held, program, policy, at)
    return after, (*_tell_agents(program, policy, "drain"), *commands)


def _tell_agents(
    program: int, policy: ProgramPolicy, what: str, kill_at: float = FOREVER
) -> tuple[Command, ...]:
    return (TellAgents(program, what, kill_at),) if policy.agent else ()


def let_go(phase: Phase, program: int, policy: ProgramPolicy) -> Step:
    """Take back hold()."""
    if not isinstance(phase, PreStop) or phase.kill_at != FOREVER:
        return phase, ()
    told = _tell_agents(program, policy, "undrain")
    return Running(), (*end_stage(phase, program), *told)


def stop(
    phase: Phase,
    program: int,
    policy: ProgramPolicy,
    at: float,
    kill_at: float,
    unready_since: float,
    hurried: bool = False,
) -> Step:
    """Stop a program that has not been asked to; *kill_at* is the coordinator's limit for it.

    Load balancers have known since *unready_since* that it gets no new work.  *hurried*: a second
    request skips what comes before the stop signal, so it is not even begun.
    """
    # The answer to a start may come after a stop request that was made a moment later.
    at = max(at, unready_since)
    match phase:
        case Running():
            since, started, ended = unready_since, False, tuple[Command, ...]()
        case PreStop() if phase.kill_at == FOREVER:
            # An action that is cut here has perhaps not told the program yet: it is run again.
            started = phase.started and not isinstance(phase.stage, Starting)
            since, ended = phase.since, end_stage(phase, program)
        case _:
            return phase, ()
    if kill_at <= at:
        return kill(phase, program, at, "no time was given to stop in")
    told = _tell_agents(program, policy, "stop", kill_at)
    if hurried:
        after, commands = _signal(PreStop(since, Drained(), kill_at, at), program, policy, at)
        return after, (*ended, *told, *commands)
    held = _held_back(policy, since, at, kill_at, started)
    hook = (RunHelper(program, "pre_stop", held.signal_at),) if policy.pre_stop else ()
    serving = since + policy.propagation_delay - at
    said = (log_events.Serving(program, serving),) if serving > 0 else ()
    after, commands = _go_on(held, program, policy, at)
    return after, (*ended, *said, *told, *hook, *commands)


def _held_back(
    policy: ProgramPolicy, since: float, at: float, kill_at: float, started: bool
) -> PreStop:
    """Return the phase in which the stop signal is held back, no longer than leaves it enough
    time."""
    reserve = (
        min(RESERVE, RESERVE_PART * (kill_at - at))
        if policy.stop_timeout is None
        else policy.stop_timeout
    )
    agents_until = at + min(AGENT_LIMIT, (kill_at - at) / 2) if policy.agent else None
    waiting = Waiting(since + policy.propagation_delay, policy.pre_stop, agents_until)
    signal_at = max(at, kill_at - reserve, agents_until or 0.0)
    return PreStop(since, waiting, kill_at, signal_at, started)


def limit(phase: Phase, policy: ProgramPolicy, at: float, kill_at: float) -> Phase:
    """Return the phase when a stop begins in which the program is killed at *kill_at*: what ends
    already has no more time than that, what is not up will not be started.

    After SIGABRT it has the time that its watchdog left it, or that of the stop if that is longer.
    """
    match phase:
        case PreStop() if phase.kill_at != FOREVER and kill_at < phase.kill_at:
            return replace(
                phase, kill_at=kill_at, signal_at=phase.signal_at - (phase.kill_at - kill_at)
            )
        case Stopping():
            return replace(
                phase,
                kill_at=min(kill_at, phase.kill_at),
                drained_kill_at=min(kill_at, phase.drained_kill_at),
            )
        case Stragglers() | Aborting(stopping=True):
            return replace(phase, kill_at=min(kill_at, phase.kill_at))
        case Aborting():
            ends = kill_at if policy.stop_timeout is None else at + policy.stop_timeout
            ends = min(kill_at, max(phase.kill_at, ends))
            return replace(phase, kill_at=ends, stopping=True)
        case Pending():
            return Gone(0)
        case BackingOff(status):
            return Gone(status)
        case Spawning() | Running() | PreStop() | Killing() | Gone():
            return phase
        case _:
            assert_never(phase)


def _go_on(held: PreStop, program: int, policy: ProgramPolicy, at: float) -> Step:
    """Enter the next stage, if the one that there is has nothing more to wait for."""
    if isinstance(held.stage, Waiting) and at >= (held.stage.agents_until or FOREVER):
        given_up = replace(held, stage=replace(held.stage, agents_until=None))
        after, commands = _go_on(given_up, program, policy, at)
        return after, (log_events.AgentsSilent(program), *commands)
    asked = held.kill_at != FOREVER
    if asked and at >= held.signal_at:
        return _signal(held, program, policy, at)
    if isinstance(held.stage, Waiting):
        if held.stage.hook or at < max(held.stage.until, held.stage.agents_until or 0.0):
            return held, ()
        if policy.drain.start and not held.started:
            return replace(held, stage=Starting(), started=True), (
                log_events.DrainStart(program),
                RunHelper(program, "start", held.signal_at if asked else at + START_LIMIT),
            )
    if policy.drain.probes and (not asked or policy.drain.when == "before-signal"):
        drain, commands = draining.tick(draining.begin(policy.drain, at), program, at)
        return replace(held, stage=Draining(drain)), (
            log_events.Draining(program, stopping=asked),
            *commands,
        )
    return _signal(held, program, policy, at) if asked else (replace(held, stage=Drained()), ())


def end_stage(held: PreStop, program: int) -> tuple[Command, ...]:
    """Return what ends whatever is under way."""
    match held.stage:
        case Waiting(hook=hook):
            return (StopHelper(program, "pre_stop"),) if hook else ()
        case Starting():
            return (StopHelper(program, "start"),)
        case Draining(drain):
            return draining.stop(drain, program)
        case Drained():
            return ()
        case _:
            assert_never(held.stage)


def _signal(held: PreStop, program: int, policy: ProgramPolicy, at: float) -> Step:
    """Send the stop signal; what is still under way before it ends, but for the probes, which go
    on."""
    kill_at = drained_kill_at = (
        held.kill_at if policy.stop_timeout is None else min(held.kill_at, at + policy.stop_timeout)
    )
    ended: tuple[Command, ...] = ()
    if isinstance(held.stage, Draining):
        drain = held.stage.drain
    else:
        ended = end_stage(held, program)
        drain = draining.begin(policy.drain, at)
        if (
            drain.probes
            and policy.drain.timeout is not None
            and policy.drain.when == "after-signal"
        ):
            kill_at = min(kill_at, at + policy.drain.timeout)
    group = policy.kill_mode == "group"
    watch = None if policy.kill_mode == "process" else Watch(at, policy.stop_signal)
    looked = held_up_looks.Looks(at)
    stopping = Stopping(at, kill_at, 0, watch, drain, at, drained_kill_at, looked, held.finishes)
    return stopping, (
        *ended,
        log_events.StopSignal(program, policy.stop_signal, "group" if group else "leader"),
        *send(program, policy, policy.stop_signal),
    )


def sampled(phase: Phase, program: int, policy: ProgramPolicy, event: Sampled) -> Step:
    """Take in what a probe said."""
    match phase:
        case PreStop(stage=Draining(drain)):
            drain, said = draining.sampled(
                drain, program, policy.drain, event.probe, event.reading, event.at
            )
            phase = replace(phase, stage=Draining(drain))
            if phase.kill_at == FOREVER:
                if drain.drained_at is None:
                    return phase, said
                return replace(phase, stage=Drained()), (*said, *draining.stop(drain, program))
            if drain.drained_at is None and not drain.failed:
                if draining.may_be_ended(drain, event.at, phase.signal_at):
                    now = log_events.GoodMoment(program, drain.now or 0.0, event.at - drain.since)
                    after, commands = _signal(phase, program, policy, event.at)
                    return after, (*said, now, *commands)
                soon = draining.ask_soon(drain, event.at, phase.signal_at)
                return replace(phase, stage=Draining(soon)), said
            after, commands = _signal(phase, program, policy, event.at)
            return after, (*said, *commands)
        case Stopping(drain=drain):
            drain, said = draining.sampled(
                drain, program, policy.drain, event.probe, event.reading, event.at
            )
            kill_at = (
                phase.kill_at
                if drain.drained_at is None
                else max(phase.kill_at, phase.drained_kill_at)
            )
            return replace(phase, drain=drain, kill_at=kill_at), said
        case (
            Pending()
            | Spawning()
            | BackingOff()
            | Running()
            | PreStop()
            | Aborting()
            | Stragglers()
            | Killing()
            | Gone()
        ):
            return phase, ()
        case _:
            assert_never(phase)


def helper_ended(phase: Phase, program: int, policy: ProgramPolicy, event: HelperEnded) -> Step:
    """A hook is done; how it ended changes nothing, it is only told."""
    said = log_events.HelperEnded(program, event.what, event.ok, event.why)
    match phase:
        case PreStop(stage=Waiting(until, True, agents_until)) if event.what == "pre_stop":
            after, commands = _go_on(
                replace(phase, stage=Waiting(until, False, agents_until)), program, policy, event.at
            )
        case PreStop(stage=Starting()) if event.what == "start":
            after, commands = _go_on(
                replace(phase, stage=Waiting(event.at, False)), program, policy, event.at
            )
        case (
            Running()
            | PreStop()
            | Stopping()
            | Aborting()
            | Stragglers()
            | Killing()
            | Gone()
            | Pending()
            | Spawning()
            | BackingOff()
        ):
            after, commands = phase, ()
        case _:
            assert_never(phase)
    return after, (said, *commands)


def agents_told(phase: Phase, program: int, policy: ProgramPolicy, event: AgentsTold) -> Step:
    """The agents know of the stop: the stop signal need not wait for them."""
    if isinstance(phase, PreStop | Stopping):
        phase = replace(phase, finishes=event.finishes)
    if isinstance(phase, PreStop) and isinstance(phase.stage, Waiting):
        told = replace(phase, stage=replace(phase.stage, agents_until=None))
        return _go_on(told, program, policy, event.at)
    return phase, ()


def extended(phase: Phase, program: int, seconds: float, at: float, limit: float) -> Step:
    """The program asks for more time; it gets what there is, up to *limit*, the end of the
    budget."""
    if (
        not isinstance(phase, Stopping | Aborting | Stragglers)
        or at + seconds <= phase.kill_at
        or phase.kill_at >= limit
    ):
        return phase, ()
    kill_at = min(limit, at + seconds)
    return replace(phase, kill_at=kill_at), (log_events.Extended(program, kill_at - at),)


def send(program: int, policy: ProgramPolicy, signum: int) -> tuple[Command, ...]:
    """Return what sends a signal of a stop."""
    target = SendGroup if policy.kill_mode == "group" else SendLeader
    if signum == SIGCONT:
        return (target(program, signum),)
    if signum in (SIGTSTP, SIGTTIN, SIGTTOU):  # SIGCONT takes them back while they are pending
        return target(program, SIGCONT), target(program, signum)
    # A stopped process cannot act on SIGTERM until it is continued; systemd and s6-supervise send
    # both for this reason.
    return target(program, signum), target(program, SIGCONT)


def leader_exited(
    phase: Phase, program: int, policy: ProgramPolicy, event: LeaderExited, kill_at: float
) -> Step:
    """Take the leader's exit status; what is left is sent the stop signal if it has not had it, and
    has the rest of the time."""
    if isinstance(phase, Killing):
        again = replace(phase, status=event.status)
        return (again, ()) if event.left else (Gone(event.status, early=phase.early), ())
    if isinstance(phase, Stragglers | Gone | Pending | BackingOff):
        return phase, ()
    ended = _end(phase, program)
    after, commands = (
        _leftover(phase, program, policy, event, kill_at)
        if event.left
        else (Gone(event.status), ())
    )
    return after, (*ended, *commands)


def _end(
    phase: Spawning | Running | PreStop | Stopping | Aborting, program: int
) -> tuple[Command, ...]:
    """Return what ends hooks and probes: the leader's exit ends the drain."""
    match phase:
        case Spawning() | Running() | Aborting():
            return ()
        case PreStop():
            return end_stage(phase, program)
        case Stopping(drain=drain):
            return draining.stop(drain, program)
        case _:
            assert_never(phase)


def _leftover(
    phase: Spawning | Running | PreStop | Stopping | Aborting,
    program: int,
    policy: ProgramPolicy,
    event: LeaderExited,
    kill_at: float,
) -> Step:
    status, at = event.status, event.at
    watch = Watch(at, policy.stop_signal, signalled=False, terminal=event.terminal)
    looked = phase.looked if isinstance(phase, Stopping) else held_up_looks.Looks(at)
    if isinstance(phase, Stopping) and phase.watch is not None:
        watch = replace(phase.watch, look_at=None)
    if isinstance(phase, Stopping) or (isinstance(phase, Aborting) and phase.stopping):
        kill_at = phase.kill_at
    else:
        kill_at = min(kill_at, phase.kill_at) if isinstance(phase, PreStop) else kill_at
        kill_at = kill_at if policy.stop_timeout is None else min(kill_at, at + policy.stop_timeout)
    if kill_at <= at:
        return kill(Stragglers(status, kill_at), program, at, "no time was given to stop in")
    if policy.kill_mode == "process":
        left = Stragglers(status, kill_at, None, looked)
        return left, (log_events.Leftover(program, 0),)
    return Stragglers(status, kill_at, watch, looked), (Look(program),)


def tree_seen(phase: Phase, event: TreeSeen) -> Step:
    """Take in who is there of the program; some may have to be sent the stop signal."""
    if not isinstance(phase, Stopping | Stragglers) or phase.watch is None:
        return phase, ()
    from gracewrap.policy import stop_signal_recipients

    gone = isinstance(phase, Stragglers)
    watch, commands = stop_signal_recipients.observe(phase.watch, event, phase.kill_at, gone)
    if isinstance(phase, Stopping) and any(isinstance(one, SendTo) for one in commands):
        phase = replace(phase, patient_since=event.at)
    return replace(phase, watch=watch), commands


def examined(phase: Phase, program: int, policy: ProgramPolicy, event: Examined) -> Step:
    """Say what holds the program up, unless it has ended meanwhile, and have it write itself what
    it is doing."""
    if not isinstance(phase, Stopping | Stragglers | Killing) or not event.evidence.suspects:
        return phase, ()
    from gracewrap.policy import held_up_cause

    seen, looked = event.evidence, None if isinstance(phase, Killing) else phase.looked
    said = log_events.HeldUp(program, event.moment, held_up_cause.cause(seen), seen)
    if not policy.dump_signal or looked is None or isinstance(phase, Killing):
        return phase, (said,)
    told = held_up_cause.to_dump(seen, policy.dump_signal, event.moment, looked.dumped)
    if not told:
        return phase, (said,)
    targets, names = tuple(one.id for one in told), tuple((one.name, one.pid) for one in told)
    return replace(phase, looked=replace(looked, dumped=looked.dumped.union(targets))), (
        said,
        log_events.DumpSignal(program, policy.dump_signal, names),
        SendDump(program, targets, policy.dump_signal),
    )


def _examine(phase: Stopping | Stragglers, program: int, policy: ProgramPolicy, at: float) -> Step:
    """Take the look that is due."""
    assert phase.looked is not None
    ends = _end_of_time(phase, policy) if isinstance(phase, Stopping) else phase.kill_at
    looked, moment = held_up_looks.take(phase.looked, ends, at)
    return replace(phase, looked=looked), (Examine(program, moment),)


def _is_look_due(phase: Stopping | Stragglers, policy: ProgramPolicy, at: float) -> bool:
    ends = _end_of_time(phase, policy) if isinstance(phase, Stopping) else phase.kill_at
    due = held_up_looks.due(phase.looked, phase.kill_at, ends)
    return due is not None and at >= due


def member_ended(phase: Phase, at: float) -> Step:
    """A process of the program that is not its leader has been reaped."""
    if not isinstance(phase, Stopping | Stragglers) or phase.watch is None:
        return phase, ()
    from gracewrap.policy import stop_signal_recipients

    return replace(phase, watch=stop_signal_recipients.soon(phase.watch, at)), ()


def _look(phase: Stopping | Stragglers, program: int, *, hurry: bool = False) -> Step:
    """Look at who is there; *hurry*: whoever waits for the stop signal is sent it then."""
    assert phase.watch is not None
    hurried = hurry or phase.watch.hurried
    watch = replace(phase.watch, look_at=None, hurry=hurry, hurried=hurried)
    return replace(phase, watch=watch), (Look(program),)


def killed_seen(phase: Phase, event: KilledSeen) -> Step:
    """Say how what is left after SIGKILL looks."""
    return (replace(phase, busy=event.busy) if isinstance(phase, Killing) else phase), ()


def gone(phase: Phase) -> Step:
    """Nothing is left of a program whose leader had gone before."""
    match phase:
        case Killing(status, early=early):
            return Gone(status, early=early), ()
        case Stragglers(status):
            return Gone(status), ()
        case Pending() | Spawning() | BackingOff() | Running() | PreStop():
            return phase, ()
        case Stopping() | Aborting() | Gone():
            return phase, ()
        case _:
            assert_never(phase)


def tick(phase: Phase, program: int, policy: ProgramPolicy, at: float) -> Step:
    """Do all that is due: ask probes, climb rungs, SIGKILL at the end of the time, give up on what
    cannot be killed."""
    done: tuple[Command, ...] = ()
    due = deadline(phase, policy)
    while due is not None and at >= due:
        phase, commands = _tick(phase, program, policy, at)
        done += commands
        before, due = due, deadline(phase, policy)
        if due is not None and due <= before and not commands:
            break
    return phase, done


def _tick(phase: Phase, program: int, policy: ProgramPolicy, at: float) -> Step:
    match phase:
        case Pending() | Spawning() | Running() | Gone():
            return phase, ()
        case BackingOff(_, until):
            return (phase, ()) if at < until else (Pending(), ())
        case Stopping(_, kill_at) | Stragglers(_, kill_at) if at >= kill_at:
            return kill(phase, program, at, OUT_OF_TIME)
        case Stopping() | Stragglers() if _is_look_due(phase, policy, at):
            return _examine(phase, program, policy, at)
        case Aborting(kill_at, stopping, why):
            why = OUT_OF_TIME if stopping else why
            return kill(phase, program, at, why) if at >= kill_at else (phase, ())
        case PreStop():
            return _tick_held(phase, program, policy, at)
        case Stopping():
            return _tick_stopping(phase, program, policy, at)
        case Stragglers():
            return _look(phase, program) if _is_due(phase.watch, at) else (phase, ())
        case Killing(status, since, again_at):
            if at >= phase.give_up_at:
                return Gone(status, True), (log_events.GaveUp(program, at - since),)
            if at < again_at:
                return phase, ()
            return replace(phase, again_at=at + KILL_AGAIN), (KillProgram(program),)
        case _:
            assert_never(phase)


def _tick_held(phase: PreStop, program: int, policy: ProgramPolicy, at: float) -> Step:
    """The stop signal goes when its time has come, whatever else is still under way."""
    if at >= phase.signal_at:
        after, commands = _signal(phase, program, policy, at)
        return after, (
            log_events.HeldTooLong(program, _doing(phase.stage), at - phase.since),
            *commands,
        )
    if isinstance(phase.stage, Draining):
        drain = phase.stage.drain
        if (
            policy.drain.timeout is not None
            and not drain.failed
            and at >= drain.since + policy.drain.timeout
        ):
            return _drain_timed_out(phase, drain, program, policy, at)
        drain, commands = draining.tick(drain, program, at)
        return replace(phase, stage=Draining(drain)), commands
    return _go_on(phase, program, policy, at)


def _doing(stage: Stage) -> str:
    """Return what holds the stop signal back, as of log_events.HeldTooLong."""
    match stage:
        case Waiting(_, hook, agents_until):
            if not hook and agents_until is not None:
                return "agent"
            return "pre_stop" if hook else "propagation_delay"
        case Starting():
            return "drain.start"
        case Draining() | Drained():
            return "drain"
        case _:
            assert_never(stage)


def _drain_timed_out(
    phase: PreStop, drain: Drain, program: int, policy: ProgramPolicy, at: float
) -> Step:
    said = log_events.DrainTimeout(program, at - drain.since, draining.in_flight(drain))
    if (
        phase.kill_at == FOREVER
    ):  # only a drain was asked for: it has not been reached, and nobody asks any more
        failed = replace(
            drain, failed=True, probes=tuple(replace(probe, next_at=None) for probe in drain.probes)
        )
        return replace(phase, stage=Draining(failed)), (said, *draining.stop(drain, program))
    after, commands = _signal(phase, program, policy, at)
    return after, (said, *commands)


def _tick_stopping(phase: Stopping, program: int, policy: ProgramPolicy, at: float) -> Step:
    if _is_due(phase.watch, at):
        return _look(phase, program)
    if (
        phase.rung < len(policy.escalation)
        and at >= phase.since + policy.escalation[phase.rung].after
    ):
        return _climb(phase, program, policy, "escalation", at)
    lingers = _linger_ends(phase, policy)
    if lingers is not None and at >= lingers:
        if phase.watch is not None and phase.watch.waiting and not phase.watch.hurried:
            # Some may not have had the stop signal; they are sent it before they are killed.
            return _look(replace(phase, patient_since=at), program, hurry=True)
        if phase.rung < len(policy.escalation):
            return _climb(phase, program, policy, _early(policy), at)
        return kill(phase, program, at, _early(policy))
    drain, commands = draining.tick(phase.drain, program, at)
    return replace(phase, drain=drain), commands


def _is_due(watch: Watch | None, at: float) -> bool:
    return watch is not None and watch.look_at is not None and at >= watch.look_at


def _early(policy: ProgramPolicy) -> str:
    return NO_REQUEST if policy.drain.requests_only else EARLY


def _climb(phase: Stopping, program: int, policy: ProgramPolicy, why: str, at: float) -> Step:
    rung = policy.escalation[phase.rung]
    after = replace(phase, rung=phase.rung + 1, patient_since=at)
    return after, (
        log_events.Rung(program, rung.signum, why),
        *send(program, policy, rung.signum),
    )


def hurry(phase: Phase, program: int, policy: ProgramPolicy, at: float) -> Step:
    """Skip ahead: the stop signal, the next rung, or the end of a pause, now.

    With none left there is nothing to skip; the stop signal is not sent twice.  (A second SIGTERM
    made RQ, Dramatiq and close-with-grace drop their work.)
    """
    if isinstance(phase, PreStop) and phase.kill_at != FOREVER:
        return _signal(phase, program, policy, at)
    if isinstance(phase, Stopping) and phase.rung < len(policy.escalation):
        return _climb(phase, program, policy, "asked again", at)
    if isinstance(phase, Stragglers) and phase.watch is not None and phase.watch.waiting:
        return _look(phase, program, hurry=True)
    return phase, ()


def kill(phase: Phase, program: int, at: float, why: str) -> Step:
    """SIGKILL all that is left, now."""
    ended: tuple[Command, ...] = ()
    match phase:
        case Gone():
            return phase, ()
        case Pending() | BackingOff():
            return Gone(0 if isinstance(phase, Pending) else phase.status), ()
        case Killing():
            return phase, (KillProgram(program),)
        case Spawning() | Running() | PreStop() | Stopping() | Aborting():
            status, leader, ended = KILLED, True, _end(phase, program)
        case Stragglers(status):
            leader = False
        case _:
            assert_never(phase)
    return Killing(status, at, at + KILL_AGAIN, why in (EARLY, NO_REQUEST)), (
        log_events.Kill(program, why, leader),
        *ended,
        KillProgram(program),
    )
