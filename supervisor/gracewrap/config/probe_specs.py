"""Parsed probes, hooks, URLs and addresses: what the parsers return and the runtime uses."""

from __future__ import annotations

from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Sequence


KINDS = ("http", "tcp", "exec", "file", "notify", "agent", "log_line")


class Url(Record):
    """Where an HTTP request goes."""

    scheme: str  # "http", "https" or "unix"
    host: str  # a name, an address without brackets, or (unix) the path of the socket
    port: int  # 0 for unix
    target: str  # path and query: what the request line says

    @property
    def shown(self) -> str:
        """The URL as it is written; without anything secret, for URLs with a password are
        refused."""
        if self.scheme == "unix":
            return f"unix://{self.host}:{self.target}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = {"http": 80, "https": 443}[self.scheme]
        return (
            f"{self.scheme}://{host}{'' if self.port == default else f':{self.port}'}{self.target}"
        )


class Header(Record):
    """A request header: *prefix* and then the value, or what is in a variable or a file when the
    request is made."""

    name: str
    prefix: str = ""
    env: str = ""  # the variable's name
    file: str = ""  # the file's absolute path; its trailing line end is left out


class Request(Record):
    """An HTTP request."""

    url: Url
    method: str = "GET"
    headers: tuple[Header, ...] = ()
    body: bytes = b""
    ca: str | None = (
        None  # absolute path of a PEM file with the certificates to trust; None: the system's
    )
    insecure: bool = False  # https without looking at the certificate


class Expect(Record):
    """What an answer must say for the probe to count as drained (or ready)."""

    how: str = "status"  # "status", "json", "metric" or "text"
    # json: a JSON Pointer; metric: a name, or name{label="value", other=~"regex"}; text: a regular
    # expression
    what: str = ""
    status: int = 200  # for "status"; the others take any 2xx
    equals: object = 0  # a number, string or bool
    at_most: float | None = None  # then *equals* does not count
    absent: str = "busy"  # of a metric: or "zero"


class HttpProbeSpec(Record):
    """Ask an HTTP endpoint."""

    request: Request
    expect: Expect = Expect()
    on_refused: str = "wait"  # "drained", "fail"
    unit: str = ""  # what is counted, in people's words ("jobs"); "": unit() finds one


class TcpProbeSpec(Record):
    """Ask the kernel about connections."""

    ports: tuple[int, ...] = ()  # (): those that the program listens on
    mode: str = "idle"  # "listener-closed", "no-connections", "listening" (for ready)
    quiet: float = 2.0  # seconds
    unit: str = ""
    # A connection to somebody else counts as work: "wait": once it was used; "quiet": while it
    # moves.
    outgoing: str = "wait"


class ExecProbeSpec(Record):
    """Run a command: a number that it prints is what is in flight; without one, status 0 is
    drained."""

    command: tuple[str, ...]
    unit: str = ""
    counts: bool = True  # False (for ready): the status alone decides


class FileProbeSpec(Record):
    """Look at a file."""

    path: str  # absolute
    state: str = "exists"  # "absent"
    contains: str = ""  # then it must also hold this text (within its first MiB)


class NotifyProbeSpec(Record):
    """Wait for the program to say it itself, by sd_notify(3)."""

    assignment: str = "X_GRACEWRAP=drained"  # "READY=1" for ready


class AgentProbeSpec(Record):
    """Ask the agent in the program what is in flight; for drain only."""

    alone: bool = True  # False: other probes must agree, and decide if there is no agent


class LogLineProbeSpec(Record):
    """Wait for a line that the program writes; for ready only."""

    log_line: str  # a regular expression that is found in it


ProbeSpec = (
    HttpProbeSpec
    | TcpProbeSpec
    | ExecProbeSpec
    | FileProbeSpec
    | NotifyProbeSpec
    | AgentProbeSpec
    | LogLineProbeSpec
)


class ProbeSpecs(Record):
    """Probes that are combined."""

    probes: tuple[ProbeSpec, ...]
    combine: str = "all"  # "any"


class CheckSpecs(Record):
    """Probes of a health check, and how they are asked once it has passed; times are seconds."""

    probes: tuple[ProbeSpec, ...]
    combine: str = "all"  # "any"
    every: float = 1.0
    failures: int = 3  # so many in a row count
    passes: int = 1
    timeout: float = 2.0  # of one answer


class CommandAction(Record):
    """A hook, or the start of a drain: run a command; status 0 is success."""

    command: tuple[str, ...]
    timeout: float | None = None  # seconds; None: as long as there is time


class HttpAction(Record):
    """A hook, or the start of a drain: make a request; 2xx is success."""

    request: Request
    timeout: float | None = None


Action = CommandAction | HttpAction


def kind(probe: ProbeSpec) -> str:
    """Return the word for a probe's kind: http, tcp, exec, file, notify, agent, log_line."""
    if isinstance(probe, LogLineProbeSpec):
        return "log_line"
    return type(probe).__name__.removesuffix("ProbeSpec").lower()


def unit(probe: ProbeSpec) -> str:
    """Return what a probe counts, in the plural: what the user says, else what the pointer or the
    metric is called."""
    if isinstance(probe, FileProbeSpec | LogLineProbeSpec):
        return ""
    if isinstance(probe, AgentProbeSpec):
        return "requests and jobs"
    if not isinstance(probe, NotifyProbeSpec) and probe.unit:
        return probe.unit
    if isinstance(probe, TcpProbeSpec):
        return "connections"
    if isinstance(probe, HttpProbeSpec) and probe.expect.how in ("json", "metric"):
        return probe.expect.what.partition("{")[0].rpartition("/")[2] or "in flight"
    return "in flight"


def rests_on_tcp(drain: ProbeSpecs) -> bool:
    """Return whether the verdict may rest on tcp alone, which sees requests and no other work."""
    quantity = all if drain.combine == "all" else any
    return quantity(isinstance(probe, TcpProbeSpec) for probe in drain.probes)


def kinds(probes: Sequence[ProbeSpec]) -> str:
    """Return the kinds of several, for people."""
    return ", ".join(dict.fromkeys(map(kind, probes)))


class Address(Record):
    """Where to listen: a TCP address, or (*path* is not empty) a unix socket."""

    host: str = ""  # an IPv4 or IPv6 address without brackets; "": all of both families
    port: int = 0
    path: str = ""  # absolute

    @property
    def shown(self) -> str:
        """The address as it is written."""
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
