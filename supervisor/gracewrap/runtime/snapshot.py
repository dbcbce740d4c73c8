"""The desk: what is answered to who asks from outside, over health.listen and the control socket.

Imported for its readiness alone; the HTTP server behind it is loaded when the first visitor comes.
"""

from __future__ import annotations

import posix
import time

from gracewrap import __version__
from gracewrap.linux import process_tree
from gracewrap.policy import model as m
from gracewrap.policy import system as coordinator
from gracewrap.record import TYPE_CHECKING
from gracewrap.report import text
from gracewrap.report.runtime_events import Unheard
from gracewrap.runtime import lazy_imports, program_status
from gracewrap.server import control_socket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from gracewrap.config.settings import Settings
    from gracewrap.linux.reactor import Reactor
    from gracewrap.policy.log_events import PartEvent
    from gracewrap.report.metrics import Facts
    from gracewrap.report.recorder import Recorder
    from gracewrap.runtime.child import Child
    from gracewrap.runtime.handover import Handover
    from gracewrap.runtime.notify import NotifyListener
    from gracewrap.runtime.partial_restart import PartialRestart
    from gracewrap.runtime.prober import Prober
    from gracewrap.server.http_server import HttpServer

# Imported one by one when somebody first comes, with a look at the signals in between.
MODULES = ("gracewrap.server.routes", "gracewrap.server.http_server", "gracewrap.report.metrics")

LOOK = 0.003  # seconds to look at the processes for one answer; we are deaf meanwhile


class ControlApi:
    """Answers what is asked; what it is asked to do becomes an event.

    Args:
        reactor: Where what is watched and timed is.
        settings: Of the run.
        handover: Who listens where, and since when it runs.
        recorder: Knows what has happened.
        policy: What the policy was told.
        children: The programs, by their index.
        errands: By the index of the program, of those that have any; so is *hearing*.
        hearing: What a program says of itself.
        system: Returns how all of it stands now.
        post: Takes an event for the policy.
    """

    def __init__(
        self,
        reactor: Reactor,
        settings: Settings,
        handover: Handover,
        recorder: Recorder,
        policy: m.Policy,
        children: Sequence[Child],
        prober: Mapping[int, Prober],
        hearing: Mapping[int, NotifyListener],
        system: Callable[[], coordinator.System],
        post: Callable[[m.Event], None],
    ) -> None:
        self.reactor, self.settings, self.handover, self.recorder = (
            reactor,
            settings,
            handover,
            recorder,
        )
        self.policy, self.children, self.prober, self.hearing = policy, children, prober, hearing
        self.system, self.post = system, post
        self._place: str | None = None
        self._servers: list[HttpServer] = []
        self._parts: PartialRestart | None = None

    def open(self) -> None:
        """Let visitors come, to health.listen and to the control socket."""
        settings = self.settings
        for fd in self.handover.listening:
            self._open(fd, False)
        if settings.control_socket != "off":
            explicit = None if settings.control_socket == "auto" else settings.control_socket
            made = control_socket.create(explicit)
            if made is not None:
                fd, self._place = made
                self._open(fd, True)
            elif explicit is not None:
                why = (
                    f"cannot listen on the control socket {explicit}; gracewrap status and its "
                    "like cannot reach this one"
                )
                self.recorder.record(Unheard(why), time.monotonic())

    def _open(self, fd: int, control: bool) -> None:
        """Wait for the first visitor: it stays in the kernel's queue until the server is loaded."""

        def visited() -> None:
            self.reactor.unwatch(fd)
            self.reactor.run_in_slices(self._load(fd, control))

        self.reactor.watch(fd, visited)

    def _load(self, fd: int, control: bool) -> Iterator[None]:
        try:
            for name in (*lazy_imports.H11, *MODULES):
                __import__(name)
                yield
            from gracewrap.server.http_server import HttpServer

            self._servers.append(HttpServer(self.reactor, self, fd, control))
        except Exception as error:
            posix.close(fd)  # who waits there is told so by the kernel
            if not isinstance(error, ImportError):
                raise
            why = f"gracewrap status and its like cannot be answered: {error}; pip install h11"
            self.recorder.record(Unheard(why), time.monotonic())

    def close(self) -> None:
        """Answer nobody any more."""
        for server in self._servers:
            server.close()
        if self._place is not None:
            control_socket.remove(self._place)

    # --- how it stands ---------------------------------------------------------------------------

    def phase(self) -> str:
        """Return in one word what is going on."""
        return (
            program_status.overall(self.system())
            if len(self.children) > 1
            else self._stands(0, 0.0).phase
        )

    def _stands(self, program: int, at: float) -> program_status.ProgramStatus:
        return program_status.of(self.system(), self.policy, program, at)

    def _label(self, program: int) -> str:
        return self.recorder.histories[program].label

    def _listed(self, programs: Iterable[int], most: int = text.MOST) -> str:
        return text.listed([self._label(i) for i in programs], most)

    def is_ready(self) -> tuple[bool, Mapping[str, object]]:
        """Return whether new work is welcome, and why not."""
        system = self.system()
        if not isinstance(system, coordinator.Up) or system.drain:
            reason = "draining" if isinstance(system, coordinator.Up) else "stopping"
            stays = self.settings.health_on_stop == "keep"
            return stays, {"ready": stays, "reason": reason, **self._left(system)}
        if coordinator.is_up(system):
            return True, {"ready": True}
        reason = (
            program_status.overall(system)
            if system.part is None or system.part.again
            else "stopping"
        )
        return False, {"ready": False, "reason": reason, "why": self._what_is_missing(system)}

    def _left(self, system: coordinator.System) -> dict[str, object]:
        if not isinstance(system, coordinator.ShuttingDown):
            return {}
        return {"seconds_left": round(max(0.0, system.kill_at - time.monotonic()), 3)}

    def _kept_by(self, program: int) -> str:
        """Return why a program is not ready, as its probes say it; "": it is."""
        prober = self.prober.get(program)
        readiness = prober.readiness if prober is not None else None
        return readiness.why if readiness is not None and not readiness.ready else ""

    def _what_is_missing(self, system: coordinator.Up) -> str:
        """Return what is not up, for people: "waiting for web: connection refused; worker waits for
        db"."""
        if len(self.children) == 1:
            return self._keeps(0)
        waits: list[str] = []
        keeps: list[str] = []
        for i in range(len(system.programs)):
            stands = self._stands(i, 0.0)
            if stands.waits_for:
                waits.append(
                    f"{self._label(i)} waits for "
                    f"{self._listed(stands.waits_for, program_status.MOST)}"
                )
            elif not stands.ready and stands.phase not in program_status.ENDED:
                keeps.append(self._named(i))
        shown = [*keeps[: program_status.MOST], *waits[: max(1, program_status.MOST - len(keeps))]]
        hidden = len(keeps) + len(waits) - len(shown)
        more = f" and {hidden} more" if hidden else ""
        return f"{'waiting for ' if keeps else ''}{'; '.join(shown)}{more}"

    def _keeps(self, program: int) -> str:
        """Return what keeps a program from being up, or gone, for people."""
        child, history, stands = (
            self.children[program],
            self.recorder.histories[program],
            self._stands(program, time.monotonic()),
        )
        if stands.phase == "running" and not stands.ready:
            return self._kept_by(program) or "not ready yet"
        if stands.phase == "backing off":
            return (
                f"{history.ended()}, and is started again in "
                f"{text.seconds(round(stands.again_in or 0.0, 1))}"
            )
        if stands.phase in program_status.ENDED:
            return history.ended()
        if stands.phase in ("stopping", "killing") and child.leader is None and history.members:
            return f"left behind {history.members}"
        if stands.phase in ("draining", "stopping", "killing"):
            return history.in_flight.shown() or history.in_flight.why_busy() or stands.phase
        return "being started" if stands.phase == "starting" else stands.phase

    def _named(self, program: int) -> str:
        return f"{self._label(program)}: {self._keeps(program)}"

    # --- what it is asked to do ------------------------------------------------------------------

    def act(
        self, action: str, options: Mapping[str, str], peer: str
    ) -> tuple[int, Mapping[str, object]]:
        """Do what the control socket is asked for; return the HTTP status and a JSON body."""
        at, name = time.monotonic(), options.get("program", "")
        up = isinstance(self.system(), coordinator.Up)
        if action == "stop" and "program" not in options:  # an empty name must not come to mean all
            if not up:  # asking twice by mistake must not cut anything short; a second SIGTERM does
                return 200, {
                    "ok": True,
                    "message": "it is stopping already",
                    **self._left(self.system()),
                }
            self.post(m.StopRequested(f"gracewrap stop ({peer})", at))
            return 202, {
                "ok": True,
                "message": f"stopping, within {self.settings.shutdown_timeout:g} s",
            }
        if not up:
            return 409, {"error": "it is stopping already"}
        if action in ("restart", "stop"):
            return self.parts.act(name, action == "restart", peer, at)
        if action == "drain":
            self.post(m.DrainRequested(at))
            asked = any(one.drain for one in self.settings.each)
            probes = "" if asked else "; there is no probe that would tell when it is drained"
            return 202, {"ok": True, "message": f"draining{probes}", "probes": asked}
        if action == "undrain":
            self.post(m.UndrainRequested(at))
            return 202, {"ok": True, "message": "ready again"}
        return 404, {"error": f"no such action: {action}"}

    def _find(self, name: str) -> int | None:
        """Return the program that is meant; without a name the only one."""
        if not name:
            return 0 if len(self.children) == 1 else None
        return next((i for i in range(len(self.children)) if self._label(i) == name), None)

    @property
    def parts(self) -> PartialRestart:
        """Who takes requests for some of the programs."""
        if self._parts is None:
            from gracewrap.runtime.partial_restart import PartialRestart

            self._parts = PartialRestart(self.recorder, self.policy, self.system, self.post)
        return self._parts

    def noted(self, event: PartEvent, at: float) -> None:
        """Take in what the policy says of a part ("part_requested" and its like): somebody may have
        asked here."""
        if self._parts is not None:
            self._parts.noted(event, at)

    # --- what is known ---------------------------------------------------------------------------

    def status(self, options: Mapping[str, str]) -> tuple[int, Mapping[str, object]]:
        """Return everything that is known, for `gracewrap status`.

        Args:
            options: "program": of this one alone.  "processes": "no" leaves them out.  "request":
                adds how that one went.
        """
        at, system = time.monotonic(), self.system()
        chosen = self._find(options.get("program", ""))
        if options.get("program") and chosen is None:
            return 404, {"error": self.parts.no_such([options["program"]])}
        ready, body = self.is_ready()
        self._look_again()
        each = range(len(self.children)) if chosen is None else (chosen,)
        programs = [self._program(i, at) for i in each]
        if options.get("processes") != "no":
            self._look(zip(each, programs), LOOK + (time.monotonic() if len(each) == 1 else at))
        return 200, {
            "gracewrap": __version__,
            "pid": posix.getpid(),
            "phase": self.phase(),
            "ready": ready,
            "reason": str(body.get("reason", "")),
            "why": str(body.get("why", "")),
            "uptime_seconds": round(at - self.handover.at, 3),
            "zombies_reaped": self.recorder.run.orphans_reaped,
            "signals_forwarded": self.recorder.run.signals_forwarded,
            "stop": self._stop(system, at),
            "part": self._part(system, at),
            **({"request": self.parts.tell(options["request"])} if options.get("request") else {}),
            "interrupted": self.recorder.run.interrupted,
            "programs": programs,
        }

    def _stop(self, system: coordinator.System, at: float) -> dict[str, object] | None:
        if not isinstance(system, coordinator.ShuttingDown):
            return None
        return {
            "requested_by": self.recorder.run.requested_by(),
            "elapsed_seconds": round(at - system.since, 3),
            "left_seconds": round(max(0.0, system.kill_at - at), 3),
            "budget_seconds": self.settings.shutdown_timeout,
        }

    def _part(self, system: coordinator.System, at: float) -> dict[str, object] | None:
        """Return which programs are being stopped while the others go on, and when the last SIGKILL
        is that they may need."""
        if not isinstance(system, coordinator.Up) or system.part is None:
            return None
        part, elapsed = system.part, at - system.part.since
        left = max(
            (
                kill_in
                for i in part.programs
                if (kill_in := self._stands(i, at).kill_in) is not None
            ),
            default=0.0,
        )
        return {
            "programs": [self._label(i) for i in sorted(part.programs)],
            "again": bool(part.again),
            "elapsed_seconds": round(elapsed, 3),
            "left_seconds": round(left, 3),
            "budget_seconds": round(elapsed + left, 3),
        }

    def _program(self, i: int, at: float) -> dict[str, object]:
        child, history, stands = self.children[i], self.recorder.histories[i], self._stands(i, at)
        alone = len(self.children) == 1
        hearing, in_flight = self.hearing.get(i), history.in_flight
        kept_by = self._kept_by(i)
        return {
            "name": history.label,
            "command": list(child.settings.command),
            "pid": child.pid if alone and child.pid else child.leader,
            "phase": stands.phase,
            "ready": stands.ready,
            "why": program_status.why(stands, self._named, kept_by, history.ended()),
            "waits_for": [self._label(one) for one in stands.waits_for],
            "left_seconds": _rounded(stands.kill_in),
            "uptime_seconds": None if child.leader is None else _rounded(at - child.started_at),
            "ready_after_seconds": _rounded(history.ready_after),
            "restarts": history.restarts,
            "next_start_seconds": _rounded(stands.again_in),
            "exit_status": history.last_status if stands.status is None else stands.status,
            "oneshot": child.settings.oneshot,
            "killed": list(history.killed),
            "status_text": hearing.status if hearing is not None else "",
            "waiting_for": in_flight.shown() or in_flight.why_busy(),
            "drain": self._drain(i, at) if child.settings.drain else None,
            "processes": [],
            "all_processes": False,
        }

    def _look(self, programs: Iterable[tuple[int, dict[str, object]]], until: float) -> None:
        """Add the processes of programs to what is known of them, of as many as there is time
        for."""
        for i, known in programs:
            if time.monotonic() >= until:
                return
            found, complete = self._processes(self.children[i], until)
            known["processes"] = [
                {"pid": one.pid, "parent": one.parent, "name": one.name, "state": one.state}
                for one in found
            ]
            known["all_processes"] = complete

    def _processes(self, child: Child, until: float) -> tuple[list[process_tree.Look], bool]:
        """Return a program's processes, as many as can be found until then, and whether that is
        all."""
        if len(self.children) == 1:
            found, complete = process_tree.look(until - time.monotonic())
            return (
                (found, complete) if found or complete else process_tree.look(LOOK)
            )  # others may have had the CPU meanwhile
        if not child.pid:
            return [], True
        found = process_tree.looks(child.look(until))
        return found, time.monotonic() < until

    def metrics(self) -> str:
        """Return the metrics as they are now."""
        from gracewrap.report import metrics

        self._look_again()
        return metrics.exposition(self.facts(None))

    def last_metrics(self, exit_status: int) -> str:
        """Return the metrics of a run that is over."""
        from gracewrap.report import metrics

        return metrics.exposition(self.facts(exit_status))

    def facts(self, exit_status: int | None) -> Facts:
        """Return what the metrics are made of; with an exit status: when all is over."""
        from gracewrap.report.metrics import PHASES, Facts, facts_of

        at, system, run = time.monotonic(), self.system(), self.recorder.run
        over = exit_status is not None or isinstance(
            system, coordinator.Flushing | coordinator.Finishing | coordinator.Ended
        )
        phase = {"drained": "draining", "ending": "ended"}.get(self.phase(), self.phase())
        left = (
            max(0.0, system.kill_at - at) if isinstance(system, coordinator.ShuttingDown) else None
        )
        each = []
        for i, (child, history) in enumerate(zip(self.children, run.programs)):
            told = bool(child.settings.ready) or len(self.children) > 1
            ready = self._stands(i, at).ready and not over
            each.append(
                facts_of(history, not over and child.leader is not None, ready if told else None)
            )
        return Facts(
            __version__,
            round(run.started_wall, 3),
            "ended" if over else phase if phase in PHASES else "running",
            tuple(each),
            run.orphans_reaped,
            run.signals_forwarded,
            run.interrupted or 0.0,
            left,
            at - run.since if over and run.since is not None else None,
            exit_status,
        )

    def _drain(self, program: int, at: float) -> dict[str, object]:
        history = self.recorder.histories[program]
        return {
            "drained": history.drained_after is not None,
            "in_flight": history.in_flight.total(),
            "probes": [
                {
                    "kind": one.kind,
                    "unit": one.unit,
                    "reading": one.reading.kind,
                    "in_flight": one.last,
                    "why": one.reading.why,
                    "age_seconds": None if one.at is None else round(at - one.at, 3),
                    "failures": one.failures,
                }
                for one in history.in_flight.probes
            ],
        }

    def _look_again(self) -> None:
        """Nobody asks the probes while it is up: who wants to know makes us ask, for the next
        time."""
        if coordinator.is_ready(self.system()):
            for prober in self.prober.values():
                prober.refresh()


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
