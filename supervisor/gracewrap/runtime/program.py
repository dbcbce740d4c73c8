"""What goes on beside the programs: probes and hooks, what they say of themselves, and what they
write.

Each program has only what its settings ask for, and most have nothing.  Whatever fails in here is
told and survived.
"""

from __future__ import annotations

import time

from gracewrap.policy import model as m
from gracewrap.record import TYPE_CHECKING, assert_never
from gracewrap.report import runtime_events

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gracewrap.linux.reactor import Reactor
    from gracewrap.linux.reaper import Reaped
    from gracewrap.report.log import Log
    from gracewrap.report.recorder import Recorder
    from gracewrap.runtime.child import Child
    from gracewrap.runtime.notify import NotifyListener
    from gracewrap.runtime.output import Output, Outputs
    from gracewrap.runtime.prober import Prober

# What the programs have written last has the rest of the budget, as long as its reader takes some
# of it in so many seconds; and at least these when the budget is used up.
LAST_OUTPUT, LEAST_OUTPUT = 1.0, 0.2


class Aside:
    """All of it, by the programs' indices.

    Args:
        reactor: Where what is watched and timed is.
        recorder: Who tells of it.
        log: Where our own lines go, which must not be mixed with the programs'.
        post: Takes an event for the policy.
        managed: Whether the policy is to know when a program is ready.
    """

    def __init__(
        self,
        reactor: Reactor,
        recorder: Recorder,
        log: Log,
        post: Callable[[m.Event], None],
        managed: bool,
    ) -> None:
        self._reactor, self._narrator, self._log, self._post, self._managed = (
            reactor,
            recorder,
            log,
            post,
            managed,
        )
        self.prober: dict[int, Prober] = {}
        self.hearing: dict[int, NotifyListener] = {}
        self._outputs: Outputs | None = None
        self._output: dict[int, Output] = {}

    def safely(self, act: Callable[[], None]) -> None:
        """Do what is not worth a child: should it raise, that is told."""
        try:
            act()
        except Exception as error:
            self._fault(error)

    # --- what is prepared ------------------------------------------------------------------------

    def prepare(self, child: Child, metrics: Callable[[], str]) -> None:
        """Make what asks a program, and what runs its hooks; *metrics* returns what is pushed when
        all is over."""
        from gracewrap.runtime import prober

        i = child.index

        def is_ready(at: float) -> None:
            self._post(m.ProgramReady(i, at))

        def facts() -> Mapping[str, str]:
            return self._narrator.facts(i, time.monotonic())

        child.history.in_flight = prober.in_flight_of(child.settings)
        made = self.prober[i] = prober.Prober(
            self._reactor, child, self._post, self._narrator.record, is_ready
        )
        made.metrics, made.facts = metrics, facts

    def listen(self, child: Child, is_member: Callable[[int], bool]) -> None:
        """Hear what a program says of itself, where it finds a NOTIFY_SOCKET.

        Args:
            child: The program.
            is_member: Returns whether a process is of the program.
        """
        if child.equipment.notify is None:
            return
        from gracewrap.runtime.notify import NotifyListener

        def names_main(pid: int, fd: int) -> None:
            who = child.history.who  # and not the one that it names
            if child.names_main(pid, fd):
                event = runtime_events.MainPid(child.index, who, pid)
                self._narrator.record(event, time.monotonic())

        i = child.index
        self.hearing[i] = NotifyListener(
            self.prober[i], child.equipment.notify[0], is_member, names_main
        )

    def take_in(self, children: Sequence[Child]) -> None:
        """Take in what the programs write, where that is asked for."""
        named = [child.history.label for child in children]
        for child in children:
            if child.settings.reads_output:
                from gracewrap.runtime import output

                how = {"inherit": "through"}.get(child.settings.output, child.settings.output)
                prober = self.prober.get(child.index)
                on_line = prober.line if prober is not None and prober.hears_lines else None
                self._outputs = self._outputs or output.Outputs(self._reactor, self._fault)
                try:
                    self._output[child.index] = self._outputs.open(
                        named[child.index], how, max(map(len, named)), on_line
                    )
                except OSError as error:
                    why = f"{error.strerror}; what it writes is not taken in"
                    self._narrator.record(runtime_events.Unheard(why), time.monotonic())
                else:
                    self._log.beside = self._outputs.log

    def _fault(self, error: BaseException) -> None:
        self._narrator.fault(error, time.monotonic())

    # --- a program's lives -----------------------------------------------------------------------

    def stdio(self, index: int) -> tuple[int, int]:
        """Return what is to be a program's stdout and stderr; -1: ours."""
        return self._output[index].stdio if index in self._output else (-1, -1)

    def renew(self, index: int) -> None:
        """A program is about to be started: what is known of it is of another life."""
        for one in self._of(index):
            self.safely(one.renew)

    def begin(self, child: Child) -> None:
        """A program has been started: see when it is ready, and hear what it says."""

        def looked(probe: int, reading: m.Reading) -> None:
            at = time.monotonic()
            self._narrator.sampled(child.index, probe, reading, at)
            self._narrator.looked(child.index, probe, reading, at)

        prober, hearing = self.prober.get(child.index), self.hearing.get(child.index)
        if prober is not None:
            self.safely(lambda: prober.begin(looked))
        if hearing is not None:
            self.safely(hearing.begin)

    def end(self, index: int) -> None:
        """Nothing is left of a program, for now."""
        for one in self._of(index) if self._managed else ():
            self.safely(one.end)
        if index in self._output:
            self.safely(self._output[index].drain)

    def _of(self, index: int) -> list[Prober | NotifyListener]:
        both: tuple[Prober | NotifyListener | None, ...] = (
            self.prober.get(index),
            self.hearing.get(index),
        )
        return [one for one in both if one is not None]

    # --- what is asked of it ---------------------------------------------------------------------

    def do(self, command: m.Ask | m.StopAsking | m.RunHelper | m.StopHelper) -> m.Event | None:
        """Carry out a command; where that could not even be prepared, say so."""
        prober, at = self.prober.get(command.program), time.monotonic()
        match command:
            case m.Ask(i, probe):
                if prober is None:
                    return m.Sampled(
                        i, probe, m.Reading(m.FAILED, None, "gracewrap could not prepare it"), at
                    )
                prober.ask(i, probe, at)
            case m.RunHelper(i, what):
                if prober is None:
                    return m.HelperEnded(i, what, False, "gracewrap could not prepare it", at)
                prober.run(command, at)
            case m.StopAsking():
                if prober is not None:
                    prober.stop_asking()
            case m.StopHelper():
                if prober is not None:
                    prober.stop(command)
            case _:
                assert_never(command)
        return None

    def restart_watchdog(self, index: int) -> None:
        """Let a program's watchdog count again from now on."""
        if index in self.hearing:
            self.safely(self.hearing[index].restart_watchdog)

    def before_the_signal(self, index: int) -> None:
        """A moment later the program may have closed what it listens on."""
        if index in self.prober:
            self.safely(self.prober[index].before_the_signal)

    # --- helpers ---------------------------------------------------------------------------------

    def helpers(self) -> set[int]:
        """Return the pids of all helpers."""
        return {pid for prober in self.prober.values() for pid in prober.helpers.pids}

    def without_helpers(self, found: list[Reaped]) -> list[Reaped]:
        """Return what has been reaped but for the helpers, which are told of it."""
        for prober in self.prober.values():
            found = [
                one
                for one in found
                if one.stopped_by or not prober.helpers.reaped(one.pid, one.status)
            ]
        if self.prober:
            from gracewrap.linux import helper_processes  # it is loaded

            helper_processes.forget_gone(self.helpers())
        return found

    # --- the end ---------------------------------------------------------------------------------

    def last_output(self, budget_ends: float) -> None:
        """Write what the programs have written last, as far as its reader takes it in time."""
        if self._outputs is not None:
            at = time.monotonic()
            self._outputs.close(max(at + LEAST_OUTPUT, budget_ends), LAST_OUTPUT)
            self._log.beside, self._narrator.run.output_lost = None, self._outputs.lost
            if self._outputs.lost:
                self._narrator.record(runtime_events.OutputLost(self._outputs.lost), at)

    def sources(self) -> tuple[tuple[int, int], ...]:
        """Return where the programs' output is to be read from, and to which of our descriptors it
        goes, without us."""
        if self._outputs is None:
            return ()
        found: tuple[tuple[int, int], ...] = ()
        try:
            self._log.beside = None
            found = tuple(self._outputs.sources())
            self._outputs.settle(time.monotonic() + LEAST_OUTPUT, LEAST_OUTPUT)
        except Exception:
            pass  # the rest of it goes on from there
        return found

    def kill_helpers(self) -> None:
        """We are leaving."""
        for prober in self.prober.values():
            prober.helpers.kill_all()
