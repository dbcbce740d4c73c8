"""Finds out what holds up a program whose stop takes long, in slices, and within a time."""

from __future__ import annotations

import time

from gracewrap.policy.held_up_looks import LAST, LIMIT
from gracewrap.policy.model import Examined
from gracewrap.record import TYPE_CHECKING, replace
from gracewrap.runtime import lazy_imports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gracewrap.linux.held_up_processes import Look
    from gracewrap.linux.reactor import Reactor
    from gracewrap.policy.model import Event, Examine
    from gracewrap.runtime.output_lines import Output
    from gracewrap.runtime.program_processes import Child

TREE = 0.05  # seconds, to find the processes at most


class FlightRecorder:
    """Looks at one program when the policy asks for it.

    Args:
        reactor: Takes the steps of a look.
        child: Whose processes are looked at.
        output: What it writes, if we read that.
        post: Takes the answer.
    """

    def __init__(
        self,
        reactor: Reactor,
        child: Child,
        output: Output | None,
        post: Callable[[Event], None],
    ) -> None:
        self._reactor, self._child, self._output, self._post = reactor, child, output, post
        self._steps: Iterator[None] | None = None
        self._look: Look | None = None
        self._moment = ""

    def examine(self, command: Examine) -> None:
        """Look at the program; what was seen is posted."""
        before = self.cut()
        if before is not None:
            self._post(before)
        self._moment = command.moment
        self._steps = self._run()
        self._reactor.run_in_slices(self._steps)

    def _run(self) -> Iterator[None]:
        yield from lazy_imports.load(lazy_imports.EXAMINE)
        from gracewrap.linux import held_up_processes

        # At half of the time there is more of it, if others have the CPU meanwhile.
        clock = time.monotonic if self._moment == LAST else time.process_time
        child, until = self._child, clock() + LIMIT
        members = child.look(time.monotonic() + TREE)
        yield
        settings = child.settings
        self._look = held_up_processes.Look(
            members, settings.stop_signal, child.signalled, settings.dump_signal or 0
        )
        for _ in self._look.steps():
            if clock() >= until:
                break
            yield
        answer = self._answer()
        self._steps = None
        if answer is not None:
            self._post(answer)

    def cut(self) -> Event | None:
        """End a look that is under way; return what it has seen so far."""
        steps, self._steps = self._steps, None
        if steps is None:
            return None
        steps.close()  # type: ignore[attr-defined]
        return self._answer()

    def _answer(self) -> Event | None:
        look, self._look = self._look, None
        if look is None:
            return None
        lines = {} if self._output is None else self._output.last_lines()
        work = self._child.history.in_flight.counted()
        evidence = replace(look.evidence(lines), work=work)
        return Examined(self._child.index, self._moment, evidence, time.monotonic())
