"""Listens at health.listen and at the control socket, and turns requests into events.

Imported for its sockets alone; what answers is loaded when the first request comes.
"""

from __future__ import annotations

import posix
import time

from gracewrap.linux import signal_and_kill
from gracewrap.policy.model import (
    DrainRequested,
    Event,
    ProgramSignalRequested,
    StopRequested,
    UndrainRequested,
)
from gracewrap.policy.run_phases import System, Up
from gracewrap.record import TYPE_CHECKING
from gracewrap.report.runtime_events import Unheard
from gracewrap.report.wording import listed
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
    from gracewrap.runtime.readyz_and_livez import Readiness
    from gracewrap.runtime.status_document import StatusSnapshot
    from gracewrap.server.http_server import HttpServer

FAREWELL = 1.0  # seconds for those who are told the end, to say it and put their terminals back
# Imported one by one when the first request comes, with a look at the signals in between.
MODULES = (
    "gracewrap.runtime.readyz_and_livez",
    "gracewrap.runtime.status_document",
    "gracewrap.server.routes",
    "gracewrap.server.http_server",
    "gracewrap.report.metrics",
)

UNANSWERED = "gracewrap status and its like cannot be answered"
LOAD_AGAIN = 1.0  # seconds until what answers is loaded once more, if that has failed

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
        self._control_fd = -1
        self._servers: list[HttpServer] = []
        self._answers: tuple[Readiness, StatusSnapshot] | None = None
        self._part_requests: PartialRestart | None = None
        self._is_unheard = False  # the log says that nobody is answered
        self._told: list[int] = []  # the pids of those who were told the end

    # --- sockets ---------------------------------------------------------------------------------

    def open(self) -> None:
        """Accept requests, at health.listen and at the control socket."""
        for fd in self._handover.listening:
            self._open(fd, False)
        if self._settings.control_socket == "off":
            return
        inherited = self._handover.control
        if inherited is not None:
            control_socket.adopt(inherited.path, inherited.device, inherited.inode)
            self._path = inherited.path
            for fd in (inherited.fd, *self._handover.visitors):
                posix.set_inheritable(fd, False)
            self._open(inherited.fd, True, self._handover.visitors)
            return
        explicit = self._settings.control_socket
        explicit_path = None if explicit == "auto" else explicit
        made = control_socket.create(explicit_path)
        if made is not None:
            fd, self._path = made
            self._open(fd, True)
        else:
            where = f"on the control socket {explicit_path}"
            if explicit_path is None:
                where = f"in {', '.join(control_socket.directories())}, for none can be written to"
            what = "gracewrap status and its like cannot reach this one"
            self._recorder.record(Unheard(what, f"cannot listen {where}"), time.monotonic())

    def _open(self, fd: int, control: bool, visitors: tuple[int, ...] = ()) -> None:
        """Wait for the first request: it stays in the kernel's queue until the server is loaded.

        If there are *visitors* already, it is loaded at once.
        """

        def visited() -> None:
            self._reactor.unwatch(fd)
            self._reactor.run_in_slices(self._load(fd, control, visitors))

        if control:
            self._control_fd = fd
        self._reactor.watch(fd, visited)
        if visitors:
            visited()

    def _load(self, fd: int, control: bool, visitors: tuple[int, ...]) -> Iterator[None]:
        try:
            for name in (*lazy_imports.H11, *MODULES):
                lazy_imports.import_now(name)
                yield
            from gracewrap.server.http_server import HttpServer

            self._servers.append(HttpServer(self._reactor, self, fd, control))
            for visitor in visitors:
                self._servers[-1].adopt(visitor)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("gracewrap"):
                self._load_later(fd, control, visitors, error)
                return
            for one in (fd, *visitors):
                posix.close(one)  # the kernel tells whoever waits there
            cure = "pip install h11"
            if error.name != "h11":
                cure = "install python3, not only python3-minimal"
            self._recorder.record(Unheard(UNANSWERED, str(error), cure), time.monotonic())
        except Exception as error:
            self._load_later(fd, control, visitors, error)

    def _load_later(
        self, fd: int, control: bool, visitors: tuple[int, ...], error: Exception
    ) -> None:
        """Let who asks wait: gracewrap is being replaced, or no memory or descriptor is left."""
        at = time.monotonic()
        if not self._is_unheard:
            why = str(error) or type(error).__name__
            self._recorder.record(Unheard(f"{UNANSWERED} at the moment", why), at)
        self._is_unheard = True
        self._reactor.call_at(at + LOAD_AGAIN, lambda: self._open(fd, control, visitors))

    @property
    def is_idle(self) -> bool:
        """Whether nobody is connected, or is being answered."""
        return not any(server.connections for server in self._servers)

    @property
    def fds(self) -> list[int]:
        """The descriptor of the control socket, if there is one."""
        return [] if self._control_fd < 0 else [self._control_fd]

    def described(self) -> list[str]:
        """Return what runtime/handover.py reads about the control socket, in a line, if there is
        one."""
        found = control_socket.created(self._path or "")
        if found is None or self._control_fd < 0:
            return []
        return [f"control {self._control_fd} {found[0]} {found[1]} {self._path}"]

    def close(self) -> None:
        """Accept no more requests."""
        for server in self._servers:
            server.close()
        if self._path is not None:
            control_socket.remove(self._path)

    # --- what is asked ---------------------------------------------------------------------------

    def _answer(self) -> tuple[Readiness, StatusSnapshot]:
        if self._answers is None:
            from gracewrap.runtime.readyz_and_livez import Readiness
            from gracewrap.runtime.status_document import StatusSnapshot

            readiness = Readiness(
                self._settings, self._policy, self._programs, self._recorder, self._system
            )
            self._answers = readiness, StatusSnapshot(readiness, self._handover.at)
        return self._answers

    def is_live(self) -> tuple[bool, Mapping[str, object]]:
        """Return whether the programs are healthy, and why not."""
        return self._answer()[0].is_live()

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

    def tell_end(self, exit_status: int, at: float) -> None:
        """Answer the clients that wait for the end of the run, which was *at* that time."""
        waiting = [client for server in self._servers for client in server.waiting()]
        if not waiting:
            return
        from gracewrap.report import report_document
        from gracewrap.server import routes

        response = routes.json(200, report_document.end(self._recorder, exit_status, at))
        self._told = [client.pid for client in waiting]
        for client in waiting:
            client.tell_end(response)

    def see_off(self) -> None:
        """Wait a moment for those who have been told the end: what `docker exec` has started is
        killed when PID 1 goes.  Nobody is answered meanwhile: close() first."""
        if self._told and posix.getpid() == 1:
            run = self._recorder.run
            left = run.budget - run.used(time.monotonic())  # of a stop; all of it without one
            signal_and_kill.wait_for_exits(self._told, min(FAREWELL, max(0.0, left)))

    # --- what is to be done ----------------------------------------------------------------------

    def act(self, action: str, options: Mapping[str, str], peer: str) -> Answer:
        """Do what the control socket is asked for; return the HTTP status and a JSON body."""
        at, up = time.monotonic(), isinstance(self._system(), Up)
        if action == "reopen":
            return self._reopen(at)
        if action == "stop" and "program" not in options:  # an empty name must not come to mean all
            return self._stop(up, peer, at)
        if action == "signal":
            return self._signal(options.get("program", ""), options.get("signal", ""), peer, at)
        if not up:
            return 409, {"error": "already stopping"}
        if action in ("restart", "stop"):
            return self._parts.act(options.get("program", ""), action == "restart", peer, at)
        if action == "drain":
            self._post(DrainRequested(at))
            asked = any(one.drain for one in self._settings.each)
            probes = "" if asked else "; there is no probe that would tell when it is drained"
            return 202, {"ok": True, "message": f"draining{probes}", "probes": asked}
        if action == "undrain":
            self._post(UndrainRequested(at))
            return 202, {"ok": True, "message": "taking new work again"}
        return 404, {"error": f"no such action: {action}"}

    def _signal(self, asked: str, word: str, peer: str, at: float) -> Answer:
        """Send a signal to programs; without a name, to the only one."""
        from gracewrap.linux import signals

        try:
            signum = signals.number(word)
        except ValueError as error:
            return 400, {"error": f"{error}; write HUP, USR1 or 10"}
        labels = [program.child.history.label for program in self._programs]
        names = list(dict.fromkeys(filter(None, asked.split(","))))
        names = labels if not names and len(labels) == 1 else names
        unknown = [name for name in names if name not in labels]
        if not names or unknown:
            return (404 if names else 400), {"error": self._parts.no_such(unknown)}
        chosen = [self._programs[labels.index(name)] for name in names]
        if gone := [one.child.history.label for one in chosen if one.child.leader is None]:
            return 409, {"error": f"{listed(gone)} {'is' if len(gone) == 1 else 'are'} not running"}
        for one in chosen:
            by = f"gracewrap signal ({peer})"
            self._post(ProgramSignalRequested(one.index, signum, by, at))
        to = listed([one.child.history.who for one in chosen])
        return 202, {"ok": True, "message": f"sending {signals.name(signum)} to {to}"}

    def _reopen(self, at: float) -> Answer:
        if self._settings.log_file is None:
            return 409, {"error": "there is no log.file; the log goes to stderr"}
        if fault := self._recorder.reopen_log(at):
            return 500, {"error": fault}
        return 200, {"ok": True, "message": f"reopened {self._settings.log_file}"}

    def _stop(self, up: bool, peer: str, at: float) -> Answer:
        if not up:  # a second request by mistake must not cut anything short; a second SIGTERM does
            from gracewrap.runtime.readyz_and_livez import seconds_left

            left = seconds_left(self._system())
            return 200, {"ok": True, "message": "already stopping", **left}
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
