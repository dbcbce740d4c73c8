"""What a drill is asked to do, and what comes of it.  Times are seconds from the stop request."""

from __future__ import annotations

from gracewrap.drill.fates import ELSEWHERE, TWICE
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gracewrap.drill.fates import Request

MOST_NAMED = 10  # lost requests that a report for people names

PASSED, FAIL, INCONCLUSIVE = "passed", "failed", "inconclusive"


class Unready(Exception):
    """The drill cannot begin, or not go on; says why and what to do."""


class Balancer(Record):
    """How the load balancer in front behaves.

    *kind*: "readiness" asks for readiness each *lag* seconds, last just before the stop, and stops
    sending when it says no;
    "lag" stops sending *lag* seconds after the stop request; "connections" does so too, but for
    connections that are open, which go on being used, as behind kube-proxy; "none" sends until
    there is nobody any more.
    """

    kind: str = "readiness"
    lag: float = 0.5
    chosen: bool = False  # by the user, who knows the own one

    @property
    def how(self) -> str:
        """It as --balancer says it."""
        return self.kind if self.kind == "none" else f"{self.kind}={self.lag:g}s"


class Asked(Record):
    """What to do."""

    command: tuple[str, ...]  # the command, or all of what follows gracewrap
    options: tuple[str, ...] = ()  # gracewrap's
    urls: tuple[str, ...] = ()
    method: str = "GET"
    body: str = ""
    headers: Mapping[str, str] = {}
    rate: float = 20.0  # requests or jobs a second
    load_command: str = ""  # for /bin/sh; prints a JSON line for each request, as vegeta does
    job_command: tuple[str, ...] = ()  # takes "enqueue ID", or "ask"
    job_timeout: float = 30.0  # seconds without a job that is done: those that are left are lost
    request_timeout: float = 30.0
    ready_timeout: float = 30.0
    refused_timeout: float = 3.0  # seconds of 4xx answers after which the URL is taken for wrong
    stop_after: float | None = None  # seconds of load before the stop; None: a random moment
    balancer: Balancer = Balancer()
    rolling: bool = False
    repeat: int = 1
    compare: tuple[str, ...] = ()
    budget: float = 25.0  # a twin's grace period
    health: str = ""  # host:port of gracewrap's /readyz; "": the drill adds one
    preset: str = ""  # of the settings
    held: bool = False  # the stop signal waits until all is drained
    max_lost: int = 0
    max_twice: int = 0
    max_duration: float | None = None
    expect_exit: int | None = 0
    seed: int = 0


class Step(Record):
    """How far a drill is."""

    done: int  # stops
    total: int
    who: str
    doing: str  # "starts", "is loaded", "stops", "is looked at"
    lost: int  # so far, by gracewrap


class Run(Record):
    """One stop."""

    who: str  # "gracewrap", or a twin: "bare", "tini", "dumb-init"
    stop_after: float
    requests: tuple[Request, ...]
    duration: float  # from the stop request to the exit
    exit_status: int | None  # None: it did not exit, and was killed
    leftovers: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()  # that are still taken
    report: Mapping[str, object] | None = None  # gracewrap's own
    diverted: float | None = None  # when the balancer stopped sending; None: jobs have none
    early: int = 0  # requests that the next instance lost, which the balancer took for ready
    balancer: Balancer | None = None  # None: none was played
    preset: str = ""  # in force
    held: bool = False  # the stop signal was to wait until all was drained

    @property
    def sent(self) -> tuple[Request, ...]:
        """The requests that went to the instance that was stopped."""
        return tuple(one for one in self.requests if one.fate != ELSEWHERE)

    @property
    def lost(self) -> tuple[Request, ...]:
        """Those that were lost."""
        return tuple(one for one in self.requests if one.lost)

    @property
    def twice(self) -> tuple[Request, ...]:
        """The jobs that were done more than once."""
        return tuple(one for one in self.requests if one.fate == TWICE)


class Verdict(Record):
    """What a drill says."""

    outcome: str
    reasons: tuple[str, ...]
