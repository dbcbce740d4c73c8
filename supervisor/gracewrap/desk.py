"""The desk: what is answered to who asks from outside, over health.listen and the control socket.

Imported for its readiness alone; the HTTP server behind it is loaded when the first visitor comes.
"""

from __future__ import annotations

import posix
import time

from gracewrap import __version__, loading
from gracewrap.policy import coordinator, program
from gracewrap.policy import model as m
from gracewrap.posix import tree
from gracewrap.record import TYPE_CHECKING
from gracewrap.server import place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gracewrap.config.table import Settings
    from gracewrap.errands import Errands
    from gracewrap.handover import Handover
    from gracewrap.hearing import Hearing
    from gracewrap.posix.agenda import Agenda
    from gracewrap.report.metrics import Facts
    from gracewrap.report.narrator import Narrator
    from gracewrap.server import http as server

# Imported one by one when somebody first comes, with a look at the signals in between.
MODULES = ("gracewrap.server.routes", "gracewrap.server.http", "gracewrap.report.metrics")

LOOK = 0.003  # seconds to look at the processes for one answer; we are deaf meanwhile

# What is asked for by name: the policy's phases, in the words of people.
_PHASES = {
    program.Pending: "pending",
    program.Spawning: "starting",
    program.BackingOff: "backing off",
    program.Running: "running",
    program.Held: "draining",
    program.Stopping: "stopping",
    program.Leftover: "stopping",
    program.Killing: "killing",
    program.Gone: "gone",
}


class Desk:
    """Answers what is asked; what it is asked to do becomes an event."""

    def __init__(
        self,
        agenda: Agenda,
        settings: Settings,
        handover: Handover,
        narrator: Narrator,
        system: Callable[[], coordinator.System],
        post: Callable[[m.Event], None],
    ) -> None:
        self.agenda, self.settings, self.handover, self.narrator = agenda, settings, handover, narrator
        self.system, self.post = system, post
        self.errands: Errands | None = None
        self.hearing: Hearing | None = None
        self._place: str | None = None
        self._servers: list[server.Server] = []

    def open(self) -> None:
        """Let visitors come, to health.listen and to the control socket."""
        settings = self.settings
        for fd in self.handover.listening:
            self._open(fd, False)
        if settings.control_socket != "off":
            explicit = None if settings.control_socket == "auto" else settings.control_socket
            made = place.make(explicit)
            if made is not None:
                fd, self._place = made
                self._open(fd, True)
            elif explicit is not None:
                why = f"cannot listen on the control socket {explicit}; gracewrap status and its like cannot reach this one"
                self.narrator.tell("unheard", time.monotonic(), why=why)

    def _open(self, fd: int, control: bool) -> None:
        """Wait for the first visitor: it stays in the kernel's queue until the server is loaded."""

        def visited() -> None:
            self.agenda.forget(fd)
            self.agenda.work(self._load(fd, control))

        self.agenda.watch(fd, visited)

    def _load(self, fd: int, control: bool) -> Iterator[None]:
        try:
            for name in (*loading.H11, *MODULES):
                __import__(name)
                yield
            from gracewrap.server.http import Server

            self._servers.append(Server(self.agenda, self, fd, control))
        except Exception as error:
            posix.close(fd)  # who waits there is told so by the kernel
            if not isinstance(error, ImportError):
                raise
            why = f"gracewrap status and its like cannot be answered: {error}; pip install h11"
            self.narrator.tell("unheard", time.monotonic(), why=why)

    def close(self) -> None:
        """Answer nobody any more."""
        for server in self._servers:
            server.close()
        if self._place is not None:
            place.remove(self._place)

    def phase(self) -> str:
        """Return in one word what is going on."""
        system = self.system()
        if isinstance(system, coordinator.Up | coordinator.ShuttingDown):
            phase = system.programs[0]
            if isinstance(phase, program.Held) and isinstance(phase.stage, program.Drained):
                return "drained"
            return _PHASES[type(phase)]
        return "ending"

    def is_ready(self) -> tuple[bool, Mapping[str, object]]:
        """Return whether new work is welcome, and why not."""
        system = self.system()
        if not coordinator.is_ready(system):
            reason = "draining" if isinstance(system, coordinator.Up) else "stopping"
            stays = self.settings.health_on_stop == "keep"
            return stays, {"ready": stays, "reason": reason, **self._left(system)}
        readiness = self.errands.readiness if self.errands is not None else None
        if readiness is not None and not readiness.ready:
            return False, {"ready": False, "reason": "starting", "why": readiness.why}
        return True, {"ready": True}

    def _left(self, system: coordinator.System) -> dict[str, object]:
        if not isinstance(system, coordinator.ShuttingDown):
            return {}
        return {"seconds_left": round(max(0.0, system.kill_at - time.monotonic()), 3)}

    def act(self, action: str, options: Mapping[str, str], peer: str) -> tuple[int, Mapping[str, object]]:
        """Do what the control socket is asked for; return the HTTP status and a JSON body."""
        at = time.monotonic()
        up = isinstance(self.system(), coordinator.Up)
        if action == "stop" and not up:  # asking twice by mistake must not cut anything short; a second SIGTERM does
            return 200, {"ok": True, "message": "it is stopping already", **self._left(self.system())}
        if action == "stop":
            self.post(m.StopRequested(f"gracewrap stop ({peer})", at))
            return 202, {"ok": True, "message": f"stopping, within {self.settings.shutdown_timeout:g} s"}
        if not up:
            return 409, {"error": "it is stopping already"}
        if action == "drain":
            self.post(m.DrainRequested(at))
            probes = "" if self.settings.drain else "; there is no probe that would tell when it is drained"
            return 202, {"ok": True, "message": f"draining{probes}", "probes": bool(self.settings.drain)}
        if action == "undrain":
            self.post(m.UndrainRequested(at))
            return 202, {"ok": True, "message": "ready again"}
        return 404, {"error": f"no such action: {action}"}

    def status(self) -> Mapping[str, object]:
        """Return everything that is known, for `gracewrap status`."""
        at, system = time.monotonic(), self.system()
        ready, body = self.is_ready()
        stop = None
        if isinstance(system, coordinator.ShuttingDown):
            stop = {
                "requested_by": self.narrator.requested_by(),
                "elapsed_seconds": round(at - system.since, 3),
                "left_seconds": round(max(0.0, system.kill_at - at), 3),
                "budget_seconds": self.settings.shutdown_timeout,
            }
        self._look_again()
        return {
            "gracewrap": __version__,
            "pid": posix.getpid(),
            "phase": self.phase(),
            "ready": ready,
            "reason": str(body.get("reason", "")),
            "why": str(body.get("why", "")),
            "uptime_seconds": round(at - self.handover.at, 3),
            "zombies_reaped": self.narrator.counts["orphans_reaped"],
            "signals_forwarded": self.narrator.counts["signals_forwarded"],
            "stop": stop,
            "interrupted": self.narrator.interrupted,
            "programs": [self._program(at)],
        }

    def _program(self, at: float) -> dict[str, object]:
        command = self.settings.command
        processes, complete = tree.look(LOOK)
        return {
            "name": command[0].rpartition("/")[2],
            "command": list(command),
            "pid": self.handover.pid,
            "phase": self.phase(),
            "status_text": self.hearing.status if self.hearing is not None else "",
            "waiting_for": self.narrator.numbers.shown() or self.narrator.numbers.busy(),
            "drain": self._drain(at) if self.settings.drain else None,
            "processes": [{"pid": one.pid, "parent": one.parent, "name": one.name, "state": one.state} for one in processes],
            "all_processes": complete,
        }

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
        from gracewrap.report.metrics import Facts, ProgramFacts

        at, system, narrator = time.monotonic(), self.system(), self.narrator
        phase = {"drained": "draining", "gone": "stopping", "ending": "ended"}.get(self.phase(), self.phase())
        over = exit_status is not None or isinstance(system, coordinator.Flushing | coordinator.Finishing | coordinator.Ended)
        left = max(0.0, system.kill_at - at) if isinstance(system, coordinator.ShuttingDown) else None
        numbers = [one for one in narrator.numbers.probes if one.last is not None]
        one = ProgramFacts(
            self.settings.command[0].rpartition("/")[2],
            up=not over and not narrator.leader,
            in_flight=tuple((number.unit or number.kind, number.last or 0.0) for number in numbers),
            probe_failures=tuple((number.kind, number.failures) for number in narrator.numbers.probes),
        )
        return Facts(
            __version__,
            round(narrator.started_wall, 3),
            "ended" if over else phase,
            (one,),
            narrator.counts["orphans_reaped"],
            narrator.counts["signals_forwarded"],
            narrator.interrupted or 0.0,
            left,
            at - narrator.since if over and narrator.since is not None else None,
            exit_status,
        )

    def _drain(self, at: float) -> dict[str, object]:
        numbers = self.narrator.numbers
        return {
            "drained": self.narrator.drained_after is not None,
            "in_flight": numbers.in_flight(),
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
                for one in numbers.probes
            ],
        }

    def _look_again(self) -> None:
        """Nobody asks the probes while it is up: who wants to know makes us ask, for the next time."""
        if self.errands is not None and coordinator.is_ready(self.system()):
            self.errands.refresh()
