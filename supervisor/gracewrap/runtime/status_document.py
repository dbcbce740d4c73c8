"""The /status document, and the facts behind /metrics.

Loaded when the first request comes, or when metrics are left somewhere at the end.
"""

from __future__ import annotations

import posix
import time

from gracewrap import __version__
from gracewrap.linux import process_tree
from gracewrap.policy.program_phases import Running
from gracewrap.policy.run_phases import (
    Ended,
    Finishing,
    Flushing,
    ShuttingDown,
    System,
    Up,
)
from gracewrap.record import TYPE_CHECKING
from gracewrap.report.report_document import agent_entry
from gracewrap.runtime import phase_in_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gracewrap.report.metrics import Facts, ProgramFacts
    from gracewrap.runtime.phase_in_words import ProgramStatus
    from gracewrap.runtime.program import ProgramRuntime
    from gracewrap.runtime.readyz_and_livez import Readiness

LOOK = 0.003  # seconds to look at the processes for one answer; signals wait meanwhile


class StatusSnapshot:
    """What is known now.

    Args:
        readiness: Knows the programs and how they are.
        started_at: When the run began.
    """

    def __init__(self, readiness: Readiness, started_at: float) -> None:
        self._readiness, self._started_at = readiness, started_at
        self._programs, self._settings = readiness.programs, readiness.settings
        self._recorder, self._system = readiness.recorder, readiness.system
        # By program: its pid, when that was seen, seconds of CPU time, bytes resident.
        self._used: dict[int, tuple[object, float, float, int]] = {}
        self._next = 0  # the program to look at first

    # --- /status ---------------------------------------------------------------------------------

    def document(
        self, chosen: int | None, with_processes: bool, more: Mapping[str, object]
    ) -> dict[str, object]:
        """Return everything that is known, for `gracewrap status`.

        Args:
            chosen: Of this program alone; None: of all.
            with_processes: Add the processes of the programs.
            more: Fields that are put before those of the programs.
        """
        at, system, run = time.monotonic(), self._system(), self._recorder.run
        ready, body = self._readiness.is_ready()
        self._refresh()
        each = range(len(self._programs)) if chosen is None else (chosen,)
        programs = [self._program(i, at) for i in each]
        if with_processes:
            self._add_processes(list(zip(each, programs)), LOOK + time.monotonic())
        return {
            "gracewrap": __version__,
            "pid": posix.getpid(),
            "phase": self._readiness.phase(),
            "ready": ready,
            "reason": str(body.get("reason", "")),
            "why": str(body.get("why", "")),
            "uptime_seconds": round(at - self._started_at, 3),
            "zombies_reaped": run.orphans_reaped,
            "signals_forwarded": run.signals_forwarded,
            "stop": self._stop(system, at),
            "part": self._part(system, at),
            **more,
            "interrupted": run.interrupted,
            "programs": programs,
        }

    def _stop(self, system: System, at: float) -> dict[str, object] | None:
        if not isinstance(system, ShuttingDown):
            return None
        return {
            "requested_by": self._recorder.run.requested_by(),
            "elapsed_seconds": round(at - system.since, 3),
            "left_seconds": round(max(0.0, system.kill_at - at), 3),
            "budget_seconds": self._settings.shutdown_timeout,
        }

    def _part(self, system: System, at: float) -> dict[str, object] | None:
        """Return which programs are being stopped while the others go on, and when the last SIGKILL
        is that they may need."""
        if not isinstance(system, Up) or system.part is None:
            return None
        part, elapsed = system.part, at - system.part.since
        kills = [self._readiness.of_program(i, at).kill_in for i in part.programs]
        left = max((kill_in for kill_in in kills if kill_in is not None), default=0.0)
        return {
            "programs": [self._readiness.label(i) for i in sorted(part.programs)],
            "again": bool(part.again),
            "elapsed_seconds": round(elapsed, 3),
            "left_seconds": round(left, 3),
            "budget_seconds": round(elapsed + left, 3),
        }

    def _program(self, i: int, at: float) -> dict[str, object]:
        program, history = self._programs[i], self._recorder.histories[i]
        child, in_flight = program.child, history.in_flight
        readiness, status = self._readiness, self._readiness.of_program(i, at)
        kept_by = readiness.why_not_ready(i)
        alone = len(self._programs) == 1
        return {
            "name": history.label,
            "command": list(child.settings.command),
            "pid": child.pid if alone and child.pid else child.leader,
            "phase": status.phase,
            "ready": status.ready,
            "live": None if child.settings.live is None else not readiness.unhealthy(i),
            "why": phase_in_words.why(status, readiness.named, kept_by, history.ended()),
            "waits_for": [readiness.label(other) for other in status.waits_for],
            "left_seconds": _rounded(status.kill_in),
            "uptime_seconds": None if child.leader is None else _rounded(at - child.started_at),
            "ready_after_seconds": _rounded(history.ready_after),
            "restarts": history.restarts,
            "next_start_seconds": _rounded(status.again_in),
            "exit_status": history.last_status if status.status is None else status.status,
            "oneshot": child.settings.oneshot,
            "killed": list(history.killed),
            "status_text": "" if program.notify is None else program.notify.status,
            "waiting_for": in_flight.waiting_for(at),
            "drain": self._drain(i, status, at) if child.settings.drain else None,
            "in_flight": in_flight.total(),
            "cpu_seconds": None,
            "memory_bytes": None,
            "usage_age_seconds": None,
            "processes": [],
            "all_processes": False,
        }

    def _drain(self, i: int, status: ProgramStatus, at: float) -> dict[str, object]:
        history, prober = self._recorder.histories[i], self._programs[i].prober
        probes = history.in_flight.probes
        asked: list[float | None] = [None] * len(probes)
        if prober is not None:
            asked = [sampler.asked_at for sampler in prober.samplers]
        return {
            "drained": history.drained_after is not None,
            "given_up": status.given_up,
            "in_flight": history.in_flight.total(),
            "probes": [
                {
                    "kind": probe.kind,
                    "unit": probe.unit,
                    "reading": probe.reading.kind,
                    "in_flight": probe.last,
                    "why": probe.reading.why,
                    "streams": probe.reading.streams,
                    "idle_streams": probe.reading.idle_streams,
                    "age_seconds": _age(probe.at, at),
                    "answered_seconds": _age(probe.answered_at, at),
                    "asked_seconds": _age(asked_at, at),
                    "failures": probe.failures,
                    **agent_entry(probe.counts),
                }
                for probe, asked_at in zip(probes, asked)
            ],
        }

    def _add_processes(self, programs: list[tuple[int, dict[str, object]]], until: float) -> None:
        """Add the processes of programs, of as many as there is time for; the next look begins with
        those there was no time for."""
        start = next((n for n, (i, _) in enumerate(programs) if i >= self._next), 0)
        self._next = 0
        for i, known in programs[start:] + programs[:start]:
            if time.monotonic() >= until:
                self._next = i
                break
            found, complete = self._processes(self._programs[i], until)
            known["processes"] = [
                {"pid": one.pid, "parent": one.parent, "name": one.name, "state": one.state}
                for one in found
            ]
            known["all_processes"] = complete
            if complete:  # of some of them alone they would be too small
                used, memory = sum(one.cpu for one in found), sum(one.memory for one in found)
                self._used[i] = known["pid"], time.monotonic(), round(used, 3), memory
        for i, known in programs:
            pid, at, used, memory = self._used.get(i, (None, 0.0, 0.0, 0))
            if pid is not None and pid == known["pid"]:
                known["cpu_seconds"], known["memory_bytes"] = used, memory
                known["usage_age_seconds"] = round(time.monotonic() - at, 3)

    def _processes(
        self, program: ProgramRuntime, until: float
    ) -> tuple[list[process_tree.Look], bool]:
        """Return a program's processes, as many as can be found until then, and whether that is
        all."""
        if len(self._programs) == 1:
            found, complete = process_tree.look(until - time.monotonic())
            if found or complete:
                return found, complete
            return process_tree.look(LOOK)  # others may have had the CPU meanwhile
        if not program.child.pid:
            return [], True
        found = process_tree.looks(program.child.look(until))
        return found, time.monotonic() < until

    def _refresh(self) -> None:
        """Take samples for the next answer: at rest the probes are not asked by themselves.

        Of a program that is not ready any more too: what hangs is looked at most.
        """
        system = self._system()
        if isinstance(system, Up) and not system.drain:
            for program in self._programs:
                runs = isinstance(system.programs[program.index], Running)
                if runs and program.prober is not None:
                    program.prober.refresh()

    # --- /metrics --------------------------------------------------------------------------------

    def metrics(self) -> str:
        """Return the metrics as they are now."""
        from gracewrap.report import metrics

        self._refresh()
        return metrics.exposition(self._facts(None))

    def last_metrics(self, exit_status: int) -> str:
        """Return the metrics of a run that is over."""
        from gracewrap.report import metrics

        return metrics.exposition(self._facts(exit_status))

    def _facts(self, exit_status: int | None) -> Facts:
        """Return what the metrics are made of; with an exit status: when all is over."""
        from gracewrap.report.metrics import PHASES, Facts

        at, system, run = time.monotonic(), self._system(), self._recorder.run
        over = exit_status is not None or isinstance(system, Flushing | Finishing | Ended)
        phase = self._readiness.phase()
        phase = {"drained": "draining", "ending": "ended"}.get(phase, phase)
        left = max(0.0, system.kill_at - at) if isinstance(system, ShuttingDown) else None
        return Facts(
            __version__,
            round(run.started_wall, 3),
            "ended" if over else phase if phase in PHASES else "running",
            tuple(self._program_facts(program, at, over) for program in self._programs),
            run.orphans_reaped,
            run.signals_forwarded,
            run.interrupted or 0.0,
            left,
            at - run.since if over and run.since is not None else None,
            exit_status,
        )

    def _program_facts(self, program: ProgramRuntime, at: float, over: bool) -> ProgramFacts:
        from gracewrap.report.metrics import facts_of

        shown = bool(program.settings.ready) or len(self._programs) > 1
        ready = self._readiness.of_program(program.index, at).ready and not over
        up = not over and program.child.leader is not None
        history = self._recorder.histories[program.index]
        live = None
        if program.settings.live is not None:
            live = up and not self._readiness.unhealthy(program.index)
        return facts_of(history, up, ready if shown else None, live)


def _age(since: float | None, at: float) -> float | None:
    return None if since is None else round(at - since, 3)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
