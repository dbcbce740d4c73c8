"""Whether new work is welcome, and what keeps each program from being ready, for people.

Loaded when the first request comes.
"""

from __future__ import annotations

import time

from gracewrap.linux import process_tree
from gracewrap.policy.health_check import STOPPED
from gracewrap.policy.program_phases import BackingOff, Gone, Pending
from gracewrap.policy.readiness import is_up
from gracewrap.policy.run_phases import ShuttingDown, System, Up
from gracewrap.record import TYPE_CHECKING, replace
from gracewrap.report.wording import MOST, listed, seconds
from gracewrap.runtime import phase_in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gracewrap.config.settings import Settings
    from gracewrap.policy.model import Policy
    from gracewrap.report.recorder import Recorder
    from gracewrap.runtime.programs import Programs


class Readiness:
    """Answers for /readyz, and for what /status says of the same.

    Args:
        settings: Of the run.
        policy: As the policy has it.
        programs: The programs, by their index.
        recorder: Knows what has happened.
        system: Returns the state of the policy.
    """

    def __init__(
        self,
        settings: Settings,
        policy: Policy,
        programs: Programs,
        recorder: Recorder,
        system: Callable[[], System],
    ) -> None:
        self.settings, self.policy, self.programs = settings, policy, programs
        self.recorder, self.system = recorder, system

    def of_program(self, program: int, at: float) -> phase_in_words.ProgramStatus:
        """Return the status of a program; one that is stopped by a signal is not ready, whatever it
        has said before."""
        status = phase_in_words.of(self.system(), self.policy, program, at)
        return replace(status, ready=False) if status.ready and self.is_stopped(program) else status

    def is_stopped(self, program: int) -> bool:
        """Return whether a program's main process is stopped by a signal (SIGSTOP)."""
        child = self.programs[program].child
        return child.leader is not None and process_tree.is_stopped(child.pid)

    def phase(self) -> str:
        """Return in one word what is going on."""
        if len(self.programs) > 1:
            return phase_in_words.overall(self.system())
        return self.of_program(0, 0.0).phase

    def is_ready(self) -> tuple[bool, Mapping[str, object]]:
        """Return whether new work is welcome, and why not."""
        system = self.system()
        if not isinstance(system, Up) or system.drain:
            reason = "draining" if isinstance(system, Up) else "stopping"
            stays = self.settings.health_on_stop == "keep"
            return stays, {"ready": stays, "reason": reason, **seconds_left(system)}
        counted = [i for i, rules in enumerate(self.policy.programs) if rules.readyz]
        stopped = any(map(self.is_stopped, counted))
        if is_up(system, self.policy) and not stopped:
            return True, {"ready": True}
        is_stop = system.part is not None and not system.part.again
        reason = "stopping" if is_stop else phase_in_words.overall(system, stopped)
        return False, {"ready": False, "reason": reason, "why": self._what_is_missing(system)}

    def is_live(self) -> tuple[bool, Mapping[str, object]]:
        """Return whether all programs are healthy, as far as that is known, and why not.  What is
        being stopped need not be."""
        system = self.system()
        if not isinstance(system, Up):
            return True, {"live": True}
        found = [
            f"{self.label(i)}: {why}" if len(self.programs) > 1 else why
            for i in range(len(self.programs))
            if (why := self.unhealthy(i))
        ]
        if not found:
            return True, {"live": True}
        return False, {"live": False, "why": "; ".join(found[: phase_in_words.MOST])}

    def unhealthy(self, program: int) -> str:
        """Return why a program is not healthy; "" if it is, or if nothing is known."""
        system = self.system()
        if self.is_stopped(program):
            return STOPPED
        if not isinstance(system, Up) or not system.pasts:
            return ""
        over = isinstance(system.programs[program], Gone | BackingOff | Pending)
        return "" if over else system.pasts[program].unhealthy_why

    def _what_is_missing(self, system: Up) -> str:
        """Return what is not up, for people: "waiting for web: connection refused; worker waits for
        db"."""
        if len(self.programs) == 1:
            return self._keeps(0)
        waits: list[str] = []
        keeps: list[str] = []
        most = phase_in_words.MOST
        for i, rules in enumerate(self.policy.programs):
            status = self.of_program(i, 0.0)
            if not rules.readyz:
                continue
            if status.waits_for:
                waits.append(f"{self.label(i)} waits for {self.listed(status.waits_for, most)}")
            elif not status.ready and status.phase not in phase_in_words.ENDED:
                keeps.append(self.named(i))
        shown = [*keeps[:most], *waits[: max(1, most - len(keeps))]]
        hidden = len(keeps) + len(waits) - len(shown)
        more = f" and {hidden} more" if hidden else ""
        return f"{'waiting for ' if keeps else ''}{'; '.join(shown)}{more}"

    def why_not_ready(self, program: int) -> str:
        """Return why a program is not ready: what its ready probes say; "" if it is, or if nothing
        is known."""
        if why := self.unhealthy(program):
            return why
        prober = self.programs[program].prober
        return "" if prober is None else prober.why_not_ready()

    def named(self, program: int) -> str:
        """Return a program, and what keeps it from being up, or gone."""
        return f"{self.label(program)}: {self._keeps(program)}"

    def _keeps(self, program: int) -> str:
        history, child = self.recorder.histories[program], self.programs[program].child
        status = self.of_program(program, time.monotonic())
        if status.phase == "running" and not status.ready:
            return self.why_not_ready(program) or "not ready yet"
        if status.phase == "backing off":
            again = seconds(round(status.again_in or 0.0, 1))
            return f"{history.ended()}, and is started again in {again}"
        if status.phase in phase_in_words.ENDED:
            return history.ended()
        if status.phase in ("stopping", "killing") and child.leader is None and history.members:
            return f"left behind {history.members}"
        if status.phase in ("draining", "stopping", "killing"):
            return history.in_flight.waiting_for(time.monotonic()) or status.phase
        return "being started" if status.phase == "starting" else status.phase

    def label(self, program: int) -> str:
        """Return the name of a program."""
        return self.recorder.histories[program].label

    def listed(self, programs: Iterable[int], most: int = MOST) -> str:
        """Return the names of programs."""
        return listed([self.label(i) for i in programs], most)


def seconds_left(system: System) -> dict[str, object]:
    """Return the seconds that a stop has, as a field."""
    if not isinstance(system, ShuttingDown):
        return {}
    return {"seconds_left": round(max(0.0, system.kill_at - time.monotonic()), 3)}
