"""The parsed settings: a field for each row of the tables in config.schema_core and config.schema.

It is imported before the command is started, so it imports nothing that would delay that: no table,
and no parser.
"""

from __future__ import annotations

from gracewrap.linux.signals import SIGINT, SIGTERM
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gracewrap.config.probe_specs import (
        Action,
        Address,
        CheckSpecs,
        Header,
        ProbeSpec,
        ProbeSpecs,
        Url,
    )
    from gracewrap.policy.model import BackOff


COMMAND_LINE = "command line"  # an origin
# A terminal sends them for other reasons, or nobody can receive them: KILL, CONT, STOP, TSTP, TTIN,
# TTOU, WINCH.
NO_REQUESTS = frozenset((9, 18, 19, 20, 21, 22, 28))
RESTART = -1  # in signal_map: what such a signal is sent on as
REOPEN = -2  # likewise
DRAINED = 256  # among exit statuses: of what was killed because it was drained


class FromFile(Record):
    """The value of a variable that is in a file, without the line end at its end."""

    path: str  # absolute


class Settings(Record):
    """What is configured, parsed.  Fields as in the table, with underscores for dots; *origins*
    says where each came from.

    A default is that of its row, parsed, so that a run which is given nothing needs no table.  Made
    from several settings are *drain* and *ready* (what is asked; None: nothing), *notify* (whether
    NOTIFY_SOCKET is offered) and *drain_linger* (None: off).
    """

    command: tuple[str, ...]
    origins: Mapping[str, str]

    shutdown_timeout: float = 25.0
    stop_on: frozenset[int] = frozenset((SIGTERM, SIGINT))
    stop_signal: int = SIGTERM
    stop_timeout: float | None = None
    escalation: tuple[tuple[float, int], ...] = ()
    kill_mode: str = "mixed"
    signal_map: Mapping[int, int] = {}
    success_exit_codes: frozenset[int] = frozenset()
    on_repeat: str = "escalate"
    flush_timeout: float = 1.0
    parent_death_signal: int | None = None
    log_format: str = "auto"
    log_level: str = "info"
    log_file: str | None = None
    report_file: str | None = None
    report_termination_log: str | None = None

    preset: str | None = None
    log_time: bool = False

    user: str | None = None  # a name or a number
    group: str | None = None
    supplementary_groups: tuple[str, ...] = ()
    working_dir: str | None = None
    env: Mapping[str, str | FromFile] = {}
    env_file: tuple[str, ...] = ()
    clear_env: bool = False
    umask: int | None = None
    rlimits: Mapping[str, tuple[int, int]] = {}  # soft and hard, by the names of config.process
    nice: int | None = None
    stdin: str = "inherit"

    reload_signal: int | None = None
    dump_signal: int | None = None
    propagation_delay: float = 0.0
    pre_stop: Action | None = None
    post_stop: Action | None = None
    ready: CheckSpecs | None = None
    ready_timeout: float | None = None
    live: CheckSpecs | None = None
    on_unhealthy: str = "restart"
    notify: bool = False
    agent: str = "off"  # or "node"; "auto" has become one of them
    watchdog: float | None = None
    on_watchdog: str = "stop"

    drain: ProbeSpecs | None = None
    drain_when: str = "after-signal"
    drain_start: Action | None = None
    drain_interval: float = 0.25
    drain_probe_timeout: float = 2.0
    drain_timeout: float | None = None
    drain_min_drain: float = 0.0
    drain_confirm: int = 2
    drain_linger: float | None = None
    drain_streams: float | None = None

    # As they were given, for people; what is asked is in *drain*.
    drain_http: Url | None = None
    drain_method: str | None = None
    drain_headers: tuple[Header, ...] = ()
    drain_ca: str | None = None
    drain_insecure: bool = False
    drain_status: int | None = None
    drain_json: str | None = None
    drain_metric: str | None = None
    drain_text: str | None = None
    drain_equals: object = None
    drain_at_most: float | None = None
    drain_absent: str | None = None
    drain_on_refused: str | None = None
    drain_tcp: tuple[int, ...] | None = None
    drain_mode: str | None = None
    drain_quiet: float | None = None
    drain_outgoing: str | None = None
    drain_exec: tuple[str, ...] | None = None
    drain_file: str | None = None
    drain_file_is: str | None = None
    drain_contains: str | None = None
    drain_notify: bool = False
    drain_agent: bool = False
    drain_unit: str | None = None
    drain_all: tuple[ProbeSpec, ...] | None = None
    drain_any: tuple[ProbeSpec, ...] | None = None

    health_listen: tuple[Address, ...] = ()
    health_on_stop: str = "503"
    control_socket: str = "auto"  # "off", or the path
    report_prometheus_textfile: str | None = None
    report_pushgateway: Url | None = None
    report_pushgateway_job: str | None = None  # with a pushgateway never None

    # With [programs], *command* is empty, and each of *programs* has its own settings beside those
    # that are for all.
    name: str = ""  # of [programs.NAME]; "": the one command
    programs: tuple[Settings, ...] = ()
    exit_code_from: str | None = None
    depends_on: Mapping[str, str] = {}  # program -> started, ready or completed
    stop_after: tuple[str, ...] = ()
    until: str = "gone"
    reserve: float | None = None
    oneshot: bool = False
    readyz: bool = True
    restart: str = "never"
    backoff: BackOff | None = None
    max_restarts: int | None = None
    on_exit: str = "shutdown"
    on_failure: str = "shutdown"
    output: str = "inherit"

    @property
    def each(self) -> tuple[Settings, ...]:
        """The settings of each program."""
        return self.programs or (self,)

    @property
    def stop_requests(self) -> frozenset[int]:
        """The signals that are a stop request: stop_on, and, unless that is set, the stop signal
        of each program.

        What an image knows as its STOPSIGNAL is mostly that one (nginx: QUIT).  Passed on, it would
        end all programs at once: no order, no delay, no budget.
        """
        if "stop_on" in self.origins:
            return self.stop_on
        own = {one.stop_signal for one in self.each} - NO_REQUESTS - self.signal_map.keys()
        return self.stop_on | own

    @property
    def is_managed(self) -> bool:
        """Whether there is more to decide than for one command that is started once and whose end
        is the end of all."""
        again = (
            self.restart != "never" or self.on_exit != "shutdown" or self.on_failure != "shutdown"
        )
        return (
            bool(self.programs)
            or again
            or (self.live is not None and self.on_unhealthy == "restart")
            or self.reads_output
            or RESTART in self.signal_map.values()
        )

    @property
    def reads_output(self) -> bool:
        """Whether what the command writes goes through us."""
        return self.output != "inherit" or bool(
            self.ready and any(hasattr(probe, "log_line") for probe in self.ready.probes)
        )

    @property
    def changes_process(self) -> bool:
        """Whether the command is to be another than we are: in its user, directory, environment,
        limits or stdin."""
        if (
            self.user
            or self.group
            or self.supplementary_groups
            or self.working_dir
            or self.env
            or self.env_file
            or self.clear_env
        ):
            return True
        return (
            self.umask is not None
            or self.nice is not None
            or bool(self.rlimits)
            or self.stdin == "null"
        )

    @property
    def needs_errands(self) -> bool:
        """Whether anything is done on the side: probes, hooks, a push of metrics, hearing what the
        command says of itself."""
        hooks = self.pre_stop or self.post_stop or self.drain_start
        checks, listens = self.ready or self.live, self.notify or self.agent != "off"
        return bool(hooks or self.drain or checks or listens or self.report_pushgateway)

    @property
    def needs_preparing(self) -> bool:
        """Whether something must be opened or looked up before the command is started."""
        listens = self.notify or self.agent != "off"
        return listens or self.needs_http or self.changes_process

    @property
    def needs_http(self) -> bool:
        """Whether HTTP is spoken, for which h11 is needed: by a probe, a hook, health.listen or the
        push of metrics."""
        asked = (
            probe
            for several in (self.drain, self.ready, self.live)
            if several
            for probe in several.probes
        )
        parts = (*asked, self.pre_stop, self.post_stop, self.drain_start)
        return bool(
            self.health_listen
            or self.report_pushgateway
            or any(hasattr(part, "request") for part in parts)
        )

    @property
    def hook_schemes(self) -> frozenset[str]:
        """What hooks and the push of metrics speak: http, https; empty: nothing of the kind."""
        hooks = (self.pre_stop, self.post_stop, self.drain_start)
        urls = [hook.request.url for hook in hooks if hook and hasattr(hook, "request")]
        pushed = self.report_pushgateway
        return frozenset(url.scheme for url in (*urls, *([pushed] if pushed else [])))

    @property
    def writes_reports(self) -> bool:
        """Whether a file tells how the run went when all is over."""
        files = (self.report_file, self.report_termination_log, self.report_prometheus_textfile)
        return any(file is not None for file in files)

    @property
    def log_format_in_use(self) -> str:
        """How the log is written: as text beside prefixed lines of programs, which are for
        people."""
        with_lines = self.log_format == "auto" and self.log_file is None
        if with_lines and any(one.output == "prefix" for one in self.each):
            return "text"
        return self.log_format

    @property
    def tells_metrics(self) -> bool:
        """Whether metrics are left somewhere when all is over."""
        return self.report_prometheus_textfile is not None or self.report_pushgateway is not None


def defaults(command: Sequence[str]) -> Settings:
    """Return the settings of a plain `gracewrap -- COMMAND`."""
    return Settings(tuple(command), {"command": COMMAND_LINE})
