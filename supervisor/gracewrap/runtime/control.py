"""Listens at health.listen and at the control socket, and turns requests into events.

Imported for its sockets alone; what answers is loaded when the first request comes.
"""

from __future__ import annotations

import posix
import time

from gracewrap.policy.model import DrainRequested, Event, StopRequested, UndrainRequested
from gracewrap.policy.system import System, Up
from gracewrap.record import TYPE_CHECKING
from gracewrap.report.runtime_events import Unheard
from gracewrap.runtime import lazy_imports
from gracewrap.server import control_socket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gracewrap.config.settings import Settings
    from gracewrap.linux.reactor import Reactor
    from gracewrap.policy.log_events import PartEvent
    from gracewrap.policy.model import Policy
    from gracewrap.report.recorder import Recorder
    from gracewrap.runtime.handover import Handover
    from gracewrap.runtime.partial_restart import PartialRestart
    from gracewrap.runtime.programs import Programs
    from gracewrap.runtime.readiness import Readiness
    from gracewrap.runtime.snapshot import StatusSnapshot
    from gracewrap.server.http_server import HttpServer

# Imported one by one when the first request comes, with a look at the signals in between.
MODULES = (
    "gracewrap.runtime.readiness",
    "gracewrap.runtime.snapshot",
    "gracewrap.server.routes",
    "gracewrap.server.http_server",
    "gracewrap.report.metrics",
)

Answer = tuple[int, "Mapping[str, object]"]  # HTTP status and JSON body


class ControlApi:
    """The source of the HTTP server's answers (server/routes.py).

    Args:
        reactor: For descriptors and timers.
        handover: Which sockets are open already, and when the run began.
        recorder: Takes what is to be logged, and knows what has happened.
        settings: Of the run.
        policy: As the policy has it.
        programs: The programs, by their index.
        system: Returns the state of the policy.
        post: Takes an event for the policy.
    """

    def __init__(
        self,
        reactor: Reactor,
        handover: Handover,
        recorder: Recorder,
        settings: Settings,
        policy: Policy,
        programs: Programs,
        system: Callable[[], System],
        post: Callable[[Event], None],
    ) -> None:
        self._reactor, self._handover, self._recorder = reactor, handover, recorder
        self._settings, self._policy, self._programs = settings, policy, programs
        self._system, self._post = system, post
        self._path: str | None = None  # of the control socket
        self._servers: list[HttpServer] = []
        self._answers: tuple[Readiness, StatusSnapshot] | None = None
        self._part_requests: PartialRestart | None = None

    # --- sockets ---------------------------------------------------------------------------------

    def open(self) -> None:
        """Accept requests, at health.listen and at the control socket."""
        for fd in self._handover.listening:
            self._open(fd, False)
        if self._settings.control_socket == "off":
            return
        explicit = self._settings.control_socket
        explicit_path = None if explicit == "auto" else explicit
        made = control_socket.create(explicit_path)
        if made is not None:
            fd, self._path = made
            self._open(fd, True)
        elif explicit_path is not None:
            why = (
                f"cannot listen on the control socket {explicit_path}; gracewrap status and its "
                "like cannot reach this one"
            )
            self._recorder.record(Unheard(why), time.monotonic())

    def _open(self, fd: int, control: bool) -> None:
        """Wait for the first request: it stays in the kernel's queue until the server is loaded."""

        def visited() -> None:
            self._reactor.unwatch(fd)
            self._reactor.run_in_slices(self._load(fd, control))

        self._reactor.watch(fd, visited)

    def _load(self, fd: int, control: bool) -> Iterator[None]:
        try:
            for name in (*lazy_imports.H11, *MODULES):
                __import__(name)
                yield
            from gracewrap.server.http_server import HttpServer

            self._servers.append(HttpServer(self._reactor, self, fd, control))
        except Exception as error:
            posix.close(fd)  # the kernel tells whoever waits there
            if not isinstance(error, ImportError):
                raise
            why = f"gracewrap status and its like cannot be answered: {error}; pip install h11"
            self._recorder.record(Unheard(why), time.monotonic())

    def close(self) -> None:
        """Accept no more requests."""
        for server in self._servers:
            server.close()
        if self._path is not None:
            control_socket.remove(self._path)

    # --- what is asked ---------------------------------------------------------------------------

    def _answer(self) -> tuple[Readiness, StatusSnapshot]:
        if self._answers is None:
            from gracewrap.runtime.readiness import Readiness
            from gracewrap.runtime.snapshot import StatusSnapshot

            readiness = Readiness(
                self._settings, self._policy, self._programs, self._recorder, self._system
            )
            self._answers = readiness, StatusSnapshot(readiness, self._handover.at)
        return self._answers

    def is_ready(self) -> tuple[bool, Mapping[str, object]]:
        """Return whether new work is welcome, and why not."""
        return self._answer()[0].is_ready()

    def status(self, options: Mapping[str, str]) -> Answer:
        """Return HTTP status and everything that is known.

        Args:
            options: "program": of this one alone.  "processes": "no" leaves them out.  "request":
                adds how that one went.
        """
        name, request = options.get("program", ""), options.get("request", "")
        chosen = self._find(name)
        if name and chosen is None:
            return 404, {"error": self._parts.no_such([name])}
        more = {"request": self._parts.tell(request)} if request else {}
        snapshot, with_processes = self._answer()[1], options.get("processes") != "no"
        return 200, snapshot.document(chosen, with_processes, more)

    def _find(self, name: str) -> int | None:
        """Return the program of that name; without a name the only one."""
        if not name:
            return 0 if len(self._programs) == 1 else None
        labels = [program.child.history.label for program in self._programs]
        return labels.index(name) if name in labels else None

    def metrics(self) -> str:
        """Return the metrics as they are now."""
        return self._answer()[1].metrics()

    def last_metrics(self, exit_status: int) -> str:
        """Return the metrics of a run that is over."""
        return self._answer()[1].last_metrics(exit_status)

    # --- what is to be done ----------------------------------------------------------------------

    def act(self, action: str, options: Mapping[str, str], peer: str) -> Answer:
        """Do what the control socket is asked for; return the HTTP status and a JSON body."""
        at, up = time.monotonic(), isinstance(self._system(), Up)
        if action == "stop" and "program" not in options:  # an empty name must not come to mean all
            return self._stop(up, peer, at)
        if not up:
            return 409, {"error": "it is stopping already"}
        if action in ("restart", "stop"):
            return self._parts.act(options.get("program", ""), action == "restart", peer, at)
        if action == "drain":
            self._post(DrainRequested(at))
            asked = any(one.drain for one in self._settings.each)
            probes = "" if asked else "; there is no probe that would tell when it is drained"
            return 202, {"ok": True, "message": f"draining{probes}", "probes": asked}
        if action == "undrain":
            self._post(UndrainRequested(at))
            return 202, {"ok": True, "message": "ready again"}
        return 404, {"error": f"no such action: {action}"}

    def _stop(self, up: bool, peer: str, at: float) -> Answer:
        if not up:  # a second request by mistake must not cut anything short; a second SIGTERM does
            from gracewrap.runtime.readiness import seconds_left

            left = seconds_left(self._system())
            return 200, {"ok": True, "message": "it is stopping already", **left}
        self._post(StopRequested(f"gracewrap stop ({peer})", at))
        within = f"stopping, within {self._settings.shutdown_timeout:g} s"
        return 202, {"ok": True, "message": within}

    @property
    def _parts(self) -> PartialRestart:
        """Requests for some of the programs."""
        if self._part_requests is None:
            from gracewrap.runtime.partial_restart import PartialRestart

            self._part_requests = PartialRestart(
                self._recorder, self._policy, self._system, self._post
            )
        return self._part_requests

    def noted(self, event: PartEvent, at: float) -> None:
        """Take in what the policy says of a request for some of the programs."""
        if self._part_requests is not None:
            self._part_requests.noted(event, at)
