"""What the platforms' manifests have in common: containers and how they are stopped; and what is
found about them."""

from __future__ import annotations

from gracewrap.manifests.parse_text import File, Node
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Mapping

ERROR, WARNING = "error", "warning"


class Edit(Record):
    """Replaces the text from *start* to *end*.  Of several of one *subject*, the one with the
    greatest *weight* is made."""

    start: int
    end: int
    text: str
    subject: str = ""
    weight: float = 0.0


class Finding(Record):
    """One thing in a manifest that would lose work, or that hides that it does."""

    rule: str
    level: str
    file: str
    line: int
    container: str  # "Deployment web, container app"
    why: str
    remedy: str  # the exact edit, for people
    edits: tuple[Edit, ...] = ()


class Grace(Record):
    """How long the platform waits between its stop signal and SIGKILL."""

    seconds: float | None  # None: it is filled in later, or cannot be read
    key: str  # what sets it: "terminationGracePeriodSeconds"
    node: Node | None  # None: it is the platform's default
    holder: Node  # the mapping in which it stands, or would
    unit: str = ""  # "s": durations are strings; "ns": a number of nanoseconds; "": seconds
    most: float | None = None  # the platform grants no more


class PreStop(Record):
    """What the platform runs before the stop signal, on the same clock."""

    key: Node
    value: Node
    seconds: float | None  # None: not known
    holder: Node  # the mapping that it stands in
    counts: bool = True  # against the grace period; Nomad's shutdown_delay does not


class Probe(Record):
    """A health check of the platform."""

    key: str  # readinessProbe
    node: Node
    how: str  # http, tcp, exec or grpc
    port: int | None = None
    path: str = "/"
    command: tuple[str, ...] = ()
    period: float = 10.0
    threshold: float = 3.0
    port_node: Node | None = None
    path_node: Node | None = None
    grace: Node | None = None  # until SIGKILL if it fails; overrides the pod's


class Security(Record):
    """What a container may do."""

    read_only: Node | None = None  # the key that makes the file system read-only
    writable: tuple[str, ...] = ()  # where something else is mounted
    added: frozenset[str] = frozenset()  # capabilities
    dropped: frozenset[str] = frozenset()
    node: Node | None = None  # of the capabilities
    capabilities: Node | None = None  # their mapping
    user: str | None = None  # it runs as this one, a number or a name
    user_node: Node | None = None
    non_root: Node | None = None  # runAsNonRoot: true


class Rollout(Record):
    """How many run, and how many may be away."""

    replicas: float | None = None
    recreate: Node | None = None  # all are stopped before one is started
    max_unavailable: Node | None = None
    max_surge: Node | None = None
    can_surge: bool = True  # more than *replicas* may run at a time
    holder: Node | None = None
    disruption: Node | None = None  # the budget's spec
    disruption_name: str = ""
    disruption_file: str = ""


class Container(Record):
    """A container of a manifest: what gracewrap's settings are compared with."""

    file: File
    platform: str  # kubernetes, compose, ecs or nomad
    workload: str  # "Deployment web"
    name: str
    node: Node
    grace: Grace
    command: Node | None = None  # replaces the image's ENTRYPOINT
    args: Node | None = None  # replaces its CMD
    env: Mapping[str, Node | None] = {}  # None: the value is not in the manifest
    env_node: Node | None = None
    pre_stop: PreStop | None = None
    stop_signal: Node | None = None
    default_signal: str = ""  # what the platform sends where nothing says so; "": the image's
    init: Node | None = None  # the key by which the platform adds an init
    shared_pid: Node | None = None
    host_pid: Node | None = None
    probes: Mapping[str, Probe] = {}
    serves: Node | None = None  # what says that clients connect to it
    ports: frozenset[int] = frozenset()  # at which, as far as it is said
    security: Security = Security()
    termination_path: Node | None = None
    restart: Node | None = None
    restart_word: str = ""  # "always", "on-failure", or ""
    batch: bool = False  # it is to complete
    neighbours: tuple[tuple[str, str, Node], ...] = ()  # unordered beside it: name, image, node
    rollout: Rollout = Rollout()
    image: str = ""
    fargate: bool = False
    place: Node | None = None  # where it begins for people, if not at *node*
    unread: str = ""  # where the rest of it is, if that could not be read

    @property
    def line(self) -> int:
        """The line at which it begins."""
        return (self.place or self.node).line

    @property
    def title(self) -> str:
        """The container for people."""
        return f"{self.workload}, {'task' if self.platform == 'nomad' else 'container'} {self.name}"


def unset(text: str) -> str:
    """Return what ${NAME:-default} is if the variable is not set; other texts as they are."""
    import re

    found = re.fullmatch(r"\$\{\w+:?-([^${}]*)\}", text)
    return found[1] if found else text
