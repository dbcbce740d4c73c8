"""Who is sent the stop signal besides the leader, and when: by what was seen of the processes.

Many programs drop their work when they are sent a second stop signal, and lose it when they are
sent none.  So a process is sent it at once if nobody can have passed it on, is watched for signs
if somebody may have, and is sent it before SIGKILL in any case, unless its parent looks after it.
Pure.
"""

from __future__ import annotations

from gracewrap.policy import log_events
from gracewrap.policy.model import IGNORES, SIGINT, Process, SendTo, TreeSeen, Watch
from gracewrap.record import TYPE_CHECKING, Record, replace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gracewrap.policy.model import Command

    _ToMembers = (
        log_events.Leftover
        | log_events.StopSignalIgnored
        | log_events.ShellWaits
        | log_events.LastCall
    )

# So long a process is given to show that its parent has passed the signal on.
SETTLE = 0.25
# A shell handles SIGINT without a trap too, and does not pass it on.
INT_BEHIND_A_SHELL = 1.0
# In this last part of a program's time, and at most so many seconds, everything has been sent it.
LAST_PART, LAST = 0.2, 2.0
# Looks follow each other in growing steps, but not more slowly than this.
LOOK_EVERY = 2.0
# How long a look at one process takes; after an exit the next look waits for as long as it takes.
LOOK_SOON, LOOK_PER_PROCESS = 0.02, 0.0002
NEVER = float("inf")
INITS = frozenset(("tini", "docker-init", "dumb-init", "catatonit", "s6-svscan"))
# They always pass the stop signal on, and some much later; GNU parallel waits on SIGHUP for what it
# has started, and stops it itself on SIGTERM.
SUPERVISORS = INITS | {
    *("gracewrap", "s6-supervise", "runsv", "circusd", "uv", "parallel"),
    *("sudo", "su", "runuser", "timeout"),
}
# They signal the whole process group of what they have started.
GROUP_WISE = frozenset(("honcho", "timeout"))
# It stops one program when another has ended, and may not come to all of them in time.
ONE_BY_ONE = frozenset(("supervisord",))


class Decision(Record):
    """Who is sent the stop signal now, and when the next one is to be; *again_at* is NEVER if
    nobody waits."""

    now: tuple[Process, ...]
    again_at: float


def decide(watch: Watch, seen: tuple[Process, ...], at: float, kill_at: float) -> Decision:
    """Return who is to be sent the stop signal, of what was *seen* at *at*.

    Args:
        watch: What is known since the stop signal was sent.
        seen: All living processes of the program.
        at: When they were looked at.
        kill_at: When they are sent SIGKILL.
    """
    scene = _Scene(watch, seen, at, kill_at)
    now, again_at = [], NEVER
    for process in seen:
        if process.id in watch.sent or process.id == watch.leader:
            continue
        due = scene.due(process)
        if due <= at or (watch.hurry and due < NEVER):
            now.append(process)
        else:
            again_at = min(again_at, due)
    return Decision(tuple(now), again_at)


def next_look(watch: Watch, again_at: float, seen: int, at: float) -> float | None:
    """Return when to look again: while a parent is there, its end makes no noise."""
    if not seen:
        return None
    step = min(LOOK_EVERY, max(SETTLE, at - watch.since))
    return min(again_at, at + max(step, seen * LOOK_PER_PROCESS * 10))


class _Scene:
    """One look at a program."""

    def __init__(self, watch: Watch, seen: tuple[Process, ...], at: float, kill_at: float) -> None:
        self.watch, self.seen, self.at, self.kill_at = watch, seen, at, kill_at
        self.here = {process.pid: process for process in seen}
        self.known = {process.pid: process for process in watch.before.values()}
        self.last = kill_at - min(LAST, LAST_PART * (kill_at - watch.since))
        self.leader_is_there = any(process.id == watch.leader for process in seen)
        self.pipes = [
            (pipe, process.id)
            for process in (*watch.before.values(), *seen)
            for pipe in process.writes
        ]

    def due(self, process: Process) -> float:
        """Return when a process is to be sent the stop signal; NEVER: it has had it, or its parent
        deals with it."""
        parent = self.here.get(process.parent)
        if process.pending or self.showed(process):
            return NEVER
        due = self.orphan(process) if parent is None else self.below(process, parent)
        return due if due == NEVER else min(due, self.last)

    def half(self, since: float) -> float:
        return since + (self.kill_at - since) / 2

    # --- whose parents are gone ------------------------------------------------------------------

    def orphan(self, process: Process) -> float:
        """Return when to tell a process that is our child now."""
        watch, old = self.watch, self.watch.before.get(process.id)
        if self.reads(process):
            return self.reader(process, watch.since)
        if not watch.signalled:
            may_have = watch.terminal == process.group and process.catches_int
            return self.half(watch.since) if may_have else self.at
        if process.unheard:  # a signal takes a moment to be heard
            return watch.since + SETTLE
        if old is None:  # born since then: somebody's clean-up work
            return self.half(watch.since)
        above = tuple(self.above(old))
        if not above and self.leader_is_there:  # a daemon: the leader may stop it by its pid file
            return self.half(watch.since)
        if not process.catches:
            return self.at  # it would be gone, or does not care
        above = above or tuple(one for one in watch.before.values() if one.id == watch.leader)
        if not any(one.catches for one in above) or self.untouched(old, process):
            return self.at
        if any(one.name in GROUP_WISE and one.catches for one in above):
            return self.last
        if self.was_kept_from(above) and old.listens and process.listens:
            return watch.since + SETTLE
        return self.half(watch.since)

    def above(self, old: Process) -> Iterator[Process]:
        """Yield what stood between a process and us, the nearest first."""
        for _ in self.known:
            found = self.known.get(old.parent)
            if found is None:
                return
            yield found
            old = found

    def was_kept_from(self, above: tuple[Process, ...]) -> bool:
        """Return whether the nearest one that could pass the signal on has passed it to somebody in
        between, who died of it.  (npm signals the shell that it has started.)"""
        for steps, one in enumerate(above):
            if one.catches:
                return steps > 0 and not one.shell
        return False

    def reads(self, process: Process) -> bool:
        """Return whether it reads a pipe that another process of the program writes, or wrote."""
        pipe = process.reads
        return bool(pipe) and any(pipe == one and by != process.id for one, by in self.pipes)

    def reader(self, process: Process, since: float) -> float:
        """Return when to tell a process that ends with its input: if it went first, who writes it
        would die of that (SIGPIPE) in the midst of its work."""
        writes = any(process.reads in one.writes and one.id != process.id for one in self.seen)
        return self.last if writes else self.half(since)

    # --- whose parents are there -----------------------------------------------------------------

    def below(self, process: Process, parent: Process) -> float:
        """Return when to tell a process whose parent is still there."""
        if parent.name in SUPERVISORS or (process.forked and not parent.shell):
            return NEVER
        since = self.watch.sent.get(parent.id)
        if since is None or parent.name in ONE_BY_ONE:
            return self.last
        if self.reads(process):
            return self.reader(process, since)
        if parent.takes == IGNORES:
            return self.at
        if parent.shell:
            return self.below_a_shell(process, parent, since)
        return self.last if parent.has_sockets else self.half(since)

    def below_a_shell(self, process: Process, shell: Process, since: float) -> float:
        """Return when to tell a shell's child.  A shell runs its trap when the command in the
        foreground has ended, and passes nothing on before that."""
        old = self.watch.before.get(process.id)
        if old is None or self.runs_a_trap(shell):
            return self.half(since)
        if self.watch.signum == SIGINT:
            return since + INT_BEHIND_A_SHELL
        if process.background or not self.untouched(old, process):
            return self.half(since)
        return since + SETTLE

    def runs_a_trap(self, shell: Process) -> bool:
        """Return whether a shell has started something since it was sent the stop signal."""
        return any(one.parent == shell.pid and one.id not in self.watch.before for one in self.seen)

    # --- signs -----------------------------------------------------------------------------------

    def untouched(self, old: Process, now: Process) -> bool:
        """Return whether a process has slept since the stop signal was sent: it has not had it."""
        return old.asleep and now.asleep and old.switches == now.switches

    def showed(self, process: Process) -> bool:
        """Return whether a process has shown that it has had the stop signal: its handler was for
        one use (Node's process.once), or it listens no more."""
        old = self.watch.before.get(process.id)
        if old is None or not self.watch.signalled:
            return False
        used_up = old.catches and not process.catches and old.forked == process.forked
        return used_up or (old.listens and not process.listens)


# --- what becomes of it --------------------------------------------------------------------------


def observe(
    watch: Watch, event: TreeSeen, kill_at: float, leader_gone: bool
) -> tuple[Watch, tuple[Command, ...]]:
    """Take in a look at a program; return what is known now, and what to do about it."""
    at, first = event.at, leader_gone and not watch.leader_gone
    if event.before and not watch.sent:
        before = {process.id: process for process in event.processes}
        sent = dict.fromkeys(event.signalled, at)
        watch = replace(watch, before=before, sent=sent, leader=event.leader)
    decision = decide(watch, event.processes, at, kill_at)
    waiting = decision.again_at < NEVER
    watch, commands = _send(watch, event, decision.now)
    commands += _ignored(watch, event)
    if first and not decision.now:
        commands.append(_left(watch, event, decision.again_at - at if waiting else None))
    alone = not leader_gone and all(process.id == watch.leader for process in event.processes)
    look_at = None if alone else next_look(watch, decision.again_at, len(event.processes), at)
    sent = {**watch.sent, **{process.id: at for process in decision.now}}
    return replace(
        watch,
        sent=sent,
        look_at=look_at,
        hurry=False,
        waiting=waiting,
        leader_gone=leader_gone,
        cost=len(event.processes) * LOOK_PER_PROCESS,
    ), tuple(commands)


def soon(watch: Watch, at: float) -> Watch:
    """Something of the program has ended: look soon at who may have nobody above it any more."""
    due = at + max(LOOK_SOON, watch.cost)
    return replace(watch, look_at=due if watch.look_at is None else min(watch.look_at, due))


def _send(watch: Watch, event: TreeSeen, now: tuple[Process, ...]) -> tuple[Watch, list[Command]]:
    """Return what sends the stop signal to processes, and what is logged of it, by its reason.

    A shell that ignores the signal and works in a loop has a new child at each look: what has been
    logged of a parent once holds for those that it starts later.
    """
    if not now:
        return watch, []
    here = {process.pid: process for process in event.processes}
    said: dict[tuple[type[_ToMembers], Process | None], list[tuple[str, int]]] = {}
    logged = set(watch.logged)
    for process in now:
        parent = here.get(process.parent)
        if parent is None:
            why: type[_ToMembers] = log_events.Leftover
        elif parent.takes == IGNORES:
            why = log_events.StopSignalIgnored
        else:
            why = log_events.ShellWaits if parent.shell else log_events.LastCall
        # What has no parent any more was there before, or else its name stands for all like it.
        is_known = parent is None and process.id in watch.before
        about = (why.EVENT, process.name if parent is None else parent.id)
        if is_known or about not in watch.logged:
            said.setdefault((why, parent), []).append((process.name, process.pid))
        logged.add(about)
    targets = tuple(process.id for process in now)
    send: Command = SendTo(event.program, targets, watch.signum)
    lines: list[Command] = [
        why(event.program, watch.signum, tuple(who), _named(parent))
        for (why, parent), who in said.items()
    ]
    return replace(watch, logged=frozenset(logged)), [send, *lines]


def _named(process: Process | None) -> tuple[str, int] | None:
    return None if process is None else (process.name, process.pid)


def _ignored(watch: Watch, event: TreeSeen) -> list[Command]:
    """Return what is logged of a leader that ignores the stop signal and has nothing below it."""
    leader = next((one for one in event.processes if one.id == watch.leader), None)
    alone = leader is not None and not any(one.parent == leader.pid for one in event.processes)
    if not event.before or leader is None or leader.takes != IGNORES or not alone:
        return []
    return [log_events.StopSignalIgnored(event.program, watch.signum, (), _named(leader))]


def _left(watch: Watch, event: TreeSeen, after: float | None) -> Command:
    who = tuple((process.name, process.pid) for process in event.processes)
    if after is None:
        return log_events.Leftover(event.program, 0, who)
    return log_events.LeftoverWaits(event.program, watch.signum, who, None, after)
