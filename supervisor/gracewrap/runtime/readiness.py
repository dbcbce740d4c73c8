"""Whether new work is welcome, and what keeps each program from being ready, for people.

Loaded when the first request comes.
"""

from __future__ import annotations

import time

from gracewrap.policy import system as system_state
from gracewrap.policy.system import ShuttingDown, System, Up
from gracewrap.record import TYPE_CHECKING
from gracewrap.report.text import MOST, listed, seconds
from gracewrap.runtime import program_status

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

    def of_program(self, program: int, at: float) -> program_status.ProgramStatus:
        """Return the status of a program."""
        return program_status.of(self.system(), self.policy, program, at)

    def phase(self) -> str:
        """Return in one word what is going on."""
        if len(self.programs) > 1:
            return program_status.overall(self.system())
        return self.of_program(0, 0.0).phase

    def is_ready(self) -> tuple[bool, Mapping[str, object]]:
        """Return whether new work is welcome, and why not."""
        system = self.system()
        if not isinstance(system, Up) or system.drain:
            reason = "draining" if isinstance(system, Up) else "stopping"
            stays = self.settings.health_on_stop == "keep"
            return stays, {"ready": stays, "reason": reason, **seconds_left(system)}
        if system_state.is_up(system):
            return True, {"ready": True}
        is_stop = system.part is not None and not system.part.again
        reason = "stopping" if is_stop else program_status.overall(system)
        return False, {"ready": False, "reason": reason, "why": self._what_is_missing(system)}

    def _what_is_missing(self, system: Up) -> str:
        """Return what is not up, for people: "waiting for web: connection refused; worker waits for
        db"."""
        if len(self.programs) == 1:
            return self._keeps(0)
        waits: list[str] = []
        keeps: list[str] = []
        most = program_status.MOST
        for i in range(len(system.programs)):
            status = self.of_program(i, 0.0)
            if status.waits_for:
                waits.append(f"{self.label(i)} waits for {self.listed(status.waits_for, most)}")
            elif not status.ready and status.phase not in program_status.ENDED:
                keeps.append(self.named(i))
        shown = [*keeps[:most], *waits[: max(1, most - len(keeps))]]
        hidden = len(keeps) + len(waits) - len(shown)
        more = f" and {hidden} more" if hidden else ""
        return f"{'waiting for ' if keeps else ''}{'; '.join(shown)}{more}"

    def why_not_ready(self, program: int) -> str:
        """Return why a program's ready probes have not passed; "" if they have."""
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
        if status.phase in program_status.ENDED:
            return history.ended()
        if status.phase in ("stopping", "killing") and child.leader is None and history.members:
            return f"left behind {history.members}"
        if status.phase in ("draining", "stopping", "killing"):
            return history.in_flight.shown() or history.in_flight.why_busy() or status.phase
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
