"""Everything that runs for one program: its processes, probes, hooks, sd_notify and output.

Each program has only what its settings ask for, and most have nothing.  An error in here is logged;
the run goes on.
"""

from __future__ import annotations

import posix
import time

from gracewrap.linux import signal_and_kill
from gracewrap.policy.model import (
    FAILED,
    AgentsTold,
    Ask,
    Event,
    Examine,
    ExcuseWatchdog,
    HelperEnded,
    KilledSeen,
    Reading,
    RestartWatchdog,
    RunHelper,
    Sampled,
    StopAsking,
    StopChecks,
    StopHelper,
    TellAgents,
    TreeSeen,
)
from gracewrap.record import TYPE_CHECKING, assert_never, replace
from gracewrap.report.program_history import name_members
from gracewrap.report.runtime_events import Unheard
from gracewrap.runtime import lazy_imports

if TYPE_CHECKING:
    from collections.abc import Callable

    from gracewrap.linux.hook_and_probe_process_groups import Helpers
    from gracewrap.linux.reactor import Reactor
    from gracewrap.policy.model import Process
    from gracewrap.report.recorder import Recorder
    from gracewrap.runtime.agents import Agents
    from gracewrap.runtime.held_up_recorder import FlightRecorder
    from gracewrap.runtime.hooks import HookRunner
    from gracewrap.runtime.output_lines import Output, Outputs
    from gracewrap.runtime.probing import Prober
    from gracewrap.runtime.program_processes import Child
    from gracewrap.runtime.sd_notify_messages import NotifyListener

    SideCommand = (
        Ask | StopAsking | StopChecks | RunHelper | StopHelper | RestartWatchdog | ExcuseWatchdog
    )


class ProgramRuntime:
    """One program, over all of its starts.

    Args:
        child: Its processes.
        reactor: For descriptors and timers.
        recorder: Takes what is to be logged.
        post: Takes an event for the policy.
    """

    def __init__(
        self,
        child: Child,
        reactor: Reactor,
        recorder: Recorder,
        post: Callable[[Event], None],
    ) -> None:
        self.child, self.index, self.settings = child, child.index, child.settings
        self._reactor, self._recorder, self._post = reactor, recorder, post
        self.helpers: Helpers | None = None  # None: there are neither probes nor hooks
        self.prober: Prober | None = None
        self.hooks: HookRunner | None = None
        self.notify: NotifyListener | None = None
        self.agents: Agents | None = None
        self.output: Output | None = None
        self.flight_recorder: FlightRecorder | None = None
        # When a process was first seen to be ours: its parent is gone.
        self._alone_since: dict[tuple[int, int], float] = {}

    def safely(self, act: Callable[[], None]) -> None:
        """Call *act*.  Log an exception instead of raising it: no extra may cost the child."""
        try:
            act()
        except Exception as error:
            self._recorder.fault(error, time.monotonic())

    # --- what is prepared ------------------------------------------------------------------------

    def prepare(self, is_member: Callable[[int], bool], metrics: Callable[[], str]) -> None:
        """Make what asks the program, runs its hooks and receives its notifications.

        Args:
            is_member: Returns whether a process is of the program.
            metrics: Returns the metrics that are pushed at the end.
        """
        from gracewrap.linux.hook_and_probe_process_groups import Helpers
        from gracewrap.runtime import hooks, probing

        lazy_imports.import_now("gracewrap.report.probe_log_messages")  # what these have to say

        child, reactor, recorder = self.child, self._reactor, self._recorder
        child.history.in_flight = probing.in_flight_of(child.settings)
        self.helpers = Helpers(reactor, child.equipment.process)
        self.prober = probing.Prober(reactor, child, self.helpers, self._post, recorder)
        self.hooks = hooks.HookRunner(reactor, child, self.helpers, self._post, recorder, metrics)
        if child.equipment.notify is not None:
            from gracewrap.runtime.sd_notify_messages import NotifyListener

            self.notify = NotifyListener(self.prober, child.equipment.notify[0], is_member)
        if child.equipment.agent is not None:
            from gracewrap.runtime.agents import Agents

            fd = child.equipment.agent[0]
            self.agents = Agents(reactor, child, fd, is_member, self._post, recorder)
            self.prober.agents = self.agents
        if child.equipment.without_agent:
            from gracewrap.report import probe_events

            why = child.equipment.without_agent
            child.history.without_agent = True
            recorder.record(probe_events.AgentOff(self.index, why), time.monotonic())

    def open_output(self, outputs: Outputs, width: int) -> None:
        """Make the pipes that the program writes to; *width* is the length of the longest name."""
        how = {"inherit": "through"}.get(self.settings.output, self.settings.output)
        prober = self.prober
        on_line = prober.on_line if prober is not None and prober.reads_lines else None
        try:
            self.output = outputs.open(self.child.history.label, how, width, on_line)
        except OSError as error:
            event = Unheard("what it writes is not taken in", error.strerror or "")
            self._recorder.record(event, time.monotonic())

    @property
    def stdio(self) -> tuple[int, int]:
        """What is to be the program's stdout and stderr; -1: ours."""
        return (-1, -1) if self.output is None else self.output.stdio

    # --- the program's starts and ends -----------------------------------------------------------

    def reset(self) -> None:
        """Reset the state of the previous run: the program is about to be started."""
        self._alone_since.clear()
        for part in (self.prober, self.notify, self.agents):
            if part is not None:
                self.safely(part.reset)

    def on_started(self) -> None:
        """Find out when the program is ready, and listen to it."""
        for part in (self.prober, self.notify):
            if part is not None:
                self.safely(part.on_started)

    def on_leftover(self) -> None:
        """Let agents go on counting: the leader is gone, and something of the program is left."""
        prober, agents = self.prober, self.agents
        if prober is not None and agents is not None:
            self.safely(lambda: prober.count_the_rest(lambda: agents.connected > 0))

    def on_gone(self) -> None:
        """Stop asking and listening: the program has no process left.  It may be started again."""
        for part in (self.prober, self.notify, self.agents):
            if part is not None:
                self.safely(part.on_gone)
        if self.output is not None:
            self.safely(self.output.drain)

    # --- the policy's commands -------------------------------------------------------------------

    def do(self, command: SideCommand) -> Event | None:
        """Carry out a command; return the answer if that could not even be prepared."""
        at = time.monotonic()
        match command:
            case Ask(i, probe):
                if self.prober is None:
                    reading = Reading(FAILED, None, "gracewrap could not prepare it")
                    return Sampled(i, probe, reading, at)
                self.prober.ask(probe, at)
            case RunHelper(i, what):
                if self.hooks is None:
                    return HelperEnded(i, what, False, "gracewrap could not prepare it", at)
                self.hooks.run(command, at)
            case StopAsking():
                if self.prober is not None:
                    self.prober.stop_asking()
            case StopChecks():
                if self.prober is not None:
                    self.prober.stop_checks()
            case StopHelper():
                if self.hooks is not None:
                    self.hooks.stop(command)
            case RestartWatchdog():
                if self.notify is not None:
                    self.safely(self.notify.restart_watchdog)
            case ExcuseWatchdog():
                if self.notify is not None:
                    self.safely(self.notify.excuse_watchdog)
            case _:
                assert_never(command)
        return None

    def shift(self, seconds: float) -> None:
        """Take *seconds* in which gracewrap was not running off what is waited for."""
        if self.prober is not None:
            self.prober.shift(seconds)

    def tell_agents(self, command: TellAgents) -> Event | None:
        """Tell the agents in it; return the answer if there is none to wait for."""
        agents = self.agents
        if agents is not None:
            self.safely(lambda: agents.tell(command))
            return None
        if command.what == "stop":
            return AgentsTold(self.index, time.monotonic())
        return None

    # --- signals ---------------------------------------------------------------------------------

    def send_stop(self, signum: int) -> Event | None:
        """Look at the program, then send the leader the stop signal; return what was seen."""
        told, self.child.told = self.child.told, None
        if told is not None:
            seen, at = self.child.see_told(told), told.at
            pid: int | None = self.child.pid
        else:
            self._before_stop_signal()
            seen = self._see(before=True)
            pid, at = self.child.send_stop(signum), time.monotonic()
        found = next((one for one in seen if one.pid == pid), None)
        self._recorder.about_to_be_told(self.index, found is None or found.catches)
        leader = None if found is None else found.id
        signalled = frozenset(() if leader is None else (leader,))
        self.child.signalled |= signalled
        return TreeSeen(self.index, seen, at, True, leader, signalled)

    def send_stop_group(self, signum: int) -> Event | None:
        """Look at the program, then send the leader's group the stop signal; return what was
        seen."""
        self._before_stop_signal()
        seen, group = self._see(before=True), self.child.group
        if not self.child.send_stop_group(signum):
            return None
        found = next((one for one in seen if one.pid == self.child.leader), None)
        self._recorder.about_to_be_told(self.index, found is None or found.catches)
        leader = None if found is None else found.id
        signalled = frozenset(one.id for one in seen if one.group == group)
        self.child.signalled |= signalled
        return TreeSeen(self.index, seen, time.monotonic(), True, leader, signalled)

    def see(self) -> Event:
        """Look at the program's processes."""
        seen, leader = self._see(), self.child.leader
        known = next((one.id for one in seen if one.pid == leader), None)
        self.child.history.catching |= {one.pid for one in seen if one.catches}
        return TreeSeen(self.index, seen, time.monotonic(), leader=known)

    def _see(self, before: bool = False) -> tuple[Process, ...]:
        if before and self.settings.kill_mode == "process":
            return ()  # nobody else is sent it
        try:
            seen = self.child.see(self.settings.stop_signal, before)
            return seen if self.agents is None else self._with_unheard(seen, self.agents.unheard())
        except Exception as error:
            self._recorder.fault(error, time.monotonic())
            return ()

    def examine(self, command: Examine) -> None:
        """Begin to find out what holds it up."""
        if self.flight_recorder is None:
            from gracewrap.runtime.held_up_recorder import FlightRecorder

            self.flight_recorder = FlightRecorder(
                self._reactor, self.child, self.output, self._post
            )
        self.flight_recorder.examine(command)

    def cut_examination(self) -> Event | None:
        """End that if it is under way; return what was seen."""
        return None if self.flight_recorder is None else self.flight_recorder.cut()

    def _with_unheard(
        self, seen: tuple[Process, ...], unheard: dict[int, float]
    ) -> tuple[Process, ...]:
        """Return what was *seen*, with what agents know: who has not had the stop signal.

        That counts of a process whose parent is gone if it is known since then: a moment before it
        the parent may have passed the signal on.
        """
        now, ours = time.monotonic(), posix.getpid()
        for one in seen:
            if one.parent == ours:
                self._alone_since.setdefault(one.id, now)
        return tuple(
            replace(one, unheard=unheard.get(one.pid, 0.0) > self._alone_since.get(one.id, now))
            for one in seen
        )

    def _before_stop_signal(self) -> None:
        """Look at what the program may close a moment after the stop signal."""
        if self.prober is not None:
            self.safely(self.prober.before_stop_signal)

    def kill(self, everyone: bool) -> KilledSeen:
        """SIGKILL everything that is left; keep the names of those that were never sent the stop
        signal; say how what is left looks.

        *everyone*: as of signal_and_kill.kill_all().
        """
        child = self.child
        leader = child.leader
        killed = child.kill(everyone)
        child.history.members = name_members(killed)
        if leader is not None and child.stop_sent and self.settings.kill_mode == "mixed":
            child.history.untold = name_members(child.untold(killed))
        return KilledSeen(self.index, signal_and_kill.only_wait_for_cpu(killed), time.monotonic())
