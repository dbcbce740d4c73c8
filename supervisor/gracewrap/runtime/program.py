"""Everything that runs for one program: its processes, probes, hooks, sd_notify and output.

Each program has only what its settings ask for, and most have nothing.  An error in here is logged;
the run goes on.
"""

from __future__ import annotations

import time

from gracewrap.linux import process_tree
from gracewrap.policy.model import (
    FAILED,
    Ask,
    Event,
    HelperEnded,
    Reading,
    RestartWatchdog,
    RunHelper,
    Sampled,
    ShellTold,
    StopAsking,
    StopHelper,
    StopSignalIgnored,
)
from gracewrap.record import TYPE_CHECKING, assert_never
from gracewrap.report.program_history import name_members
from gracewrap.report.runtime_events import Unheard

if TYPE_CHECKING:
    from collections.abc import Callable

    from gracewrap.linux.helper_processes import Helpers
    from gracewrap.linux.reactor import Reactor
    from gracewrap.report.recorder import Recorder
    from gracewrap.runtime.child import Child
    from gracewrap.runtime.hooks import HookRunner
    from gracewrap.runtime.notify import NotifyListener
    from gracewrap.runtime.output import Output, Outputs
    from gracewrap.runtime.probing import Prober

    SideCommand = Ask | StopAsking | RunHelper | StopHelper | RestartWatchdog


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
        self.output: Output | None = None

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
        from gracewrap.linux.helper_processes import Helpers
        from gracewrap.runtime import hooks, probing

        child, reactor, recorder = self.child, self._reactor, self._recorder
        child.history.in_flight = probing.in_flight_of(child.settings)
        self.helpers = Helpers(reactor, child.equipment.process)
        self.prober = probing.Prober(reactor, child, self.helpers, self._post, recorder)
        self.hooks = hooks.HookRunner(reactor, child, self.helpers, self._post, recorder, metrics)
        if child.equipment.notify is not None:
            from gracewrap.runtime.notify import NotifyListener

            self.notify = NotifyListener(self.prober, child.equipment.notify[0], is_member)

    def open_output(self, outputs: Outputs, width: int) -> None:
        """Make the pipes that the program writes to; *width* is the length of the longest name."""
        how = {"inherit": "through"}.get(self.settings.output, self.settings.output)
        prober = self.prober
        on_line = prober.on_line if prober is not None and prober.reads_lines else None
        try:
            self.output = outputs.open(self.child.history.label, how, width, on_line)
        except OSError as error:
            why = f"{error.strerror}; what it writes is not taken in"
            self._recorder.record(Unheard(why), time.monotonic())

    @property
    def stdio(self) -> tuple[int, int]:
        """What is to be the program's stdout and stderr; -1: ours."""
        return (-1, -1) if self.output is None else self.output.stdio

    # --- the program's starts and ends -----------------------------------------------------------

    def reset(self) -> None:
        """Reset the state of the previous run: the program is about to be started."""
        for part in (self.prober, self.notify):
            if part is not None:
                self.safely(part.reset)

    def on_started(self) -> None:
        """Find out when the program is ready, and listen to it."""
        for part in (self.prober, self.notify):
            if part is not None:
                self.safely(part.on_started)

    def on_gone(self) -> None:
        """Stop asking and listening: the program has no process left.  It may be started again."""
        for part in (self.prober, self.notify):
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
            case StopHelper():
                if self.hooks is not None:
                    self.hooks.stop(command)
            case RestartWatchdog():
                if self.notify is not None:
                    self.safely(self.notify.restart_watchdog)
            case _:
                assert_never(command)
        return None

    # --- signals ---------------------------------------------------------------------------------

    def send_stop(self, signum: int) -> Event | None:
        """Send the leader the stop signal; return what shows of how it is taken."""
        self._before_stop_signal()
        pid, at = self.child.send_stop(signum), time.monotonic()
        if pid is not None and process_tree.ignores(pid, signum):
            return StopSignalIgnored(self.index, at)
        if pid is not None and self.child.told.shell:
            return ShellTold(self.index, at)
        return None

    def send_stop_group(self, signum: int) -> None:
        """Send the leader's group the stop signal."""
        self._before_stop_signal()
        self.child.send_stop_group(signum)

    def _before_stop_signal(self) -> None:
        """Look at what the program may close a moment after the stop signal."""
        if self.prober is not None:
            self.safely(self.prober.before_stop_signal)

    def send_rest(self, signum: int, is_stopping: Callable[[], bool]) -> None:
        """Send the stop signal to what has not had it.  Thousands of processes are sent it in
        slices, with a look at the signals in between, while the program *is_stopping*."""
        self.child.history.members = name_members(self.child.send_rest(signum))

        def go_on() -> None:
            if is_stopping():
                self.child.send_rest(signum)
                look_again()

        def look_again() -> None:
            if self.child.told.unfinished:
                self._reactor.call_at(time.monotonic(), go_on)

        look_again()

    def kill(self, everyone: bool) -> None:
        """SIGKILL everything that is left; keep the names of those that were never sent the stop
        signal.

        *everyone*: as of process_tree.kill_all().
        """
        child = self.child
        leader = child.leader
        killed = child.kill(everyone)
        child.history.members = name_members(killed)
        if leader is not None and child.stop_sent and self.settings.kill_mode == "mixed":
            child.history.untold = name_members(child.told.untold(leader, killed))
