"""The one table of settings: flags, variables, TOML keys, help, `init`, `check` and the README all come from it.

Here are the rows that most runs use.  Those of the drain, the hooks and the endpoints are in config.further, which is loaded when
one of them is named: thirty rows more, and what parses them, would keep every child waiting.
"""

from __future__ import annotations

from gracewrap.config.parsers import values
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gracewrap.config.parsers.process import FromFile
    from gracewrap.config.probe_specs import Action, Address, Header, Probe, Probes, Url
    from gracewrap.policy.model import BackOff


class Setting:
    """One setting.  Not a Record: seventeen of these are made before the child runs, and this is ten times as quick."""

    __slots__ = ("aliases", "default", "example", "field", "flag", "help", "joined", "key", "metavar", "parse")

    def __init__(
        self,
        key: str,  # its TOML name ("log.format" is `format` in `[log]`)
        parse: Callable[[object], object],
        default: object,  # as it would be written in TOML; None: there is none
        metavar: str,
        help: str,
        example: object = None,  # as it would be written in TOML, where the default is no good example
        aliases: tuple[str, ...] = (),  # further flags
        flag: bool = True,  # can be given as a flag or a variable; else in the file only
        joined: str = "",  # what stands between the values of a repeated flag, which add up; a list and a map have ","
    ) -> None:
        self.key, self.parse, self.default, self.metavar, self.help = key, parse, default, metavar, help
        self.example, self.aliases, self.flag = example, aliases, flag
        self.joined = joined or ("," if isinstance(default, list | dict) else "")
        self.field = key.replace(".", "_")  # the name in Settings

    def initial(self) -> object:
        """Return the default, parsed; without one, None, or no words for the command."""
        if self.default is None:
            return () if self.key == "command" else None
        return self.parse(self.default)

    @property
    def switch(self) -> bool:
        """Whether it is yes or no, and the flag alone means yes."""
        return isinstance(self.default, bool)

    @property
    def option(self) -> str:
        """The long flag."""
        return "--" + self.field.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable."""
        return "GRACEWRAP_" + self.field.upper()

    @property
    def more_variables(self) -> tuple[str, ...]:
        """The variables that go with the further flags."""
        return tuple("GRACEWRAP_" + alias[2:].replace("-", "_").upper() for alias in self.aliases)


CORE: tuple[Setting, ...] = (
    Setting(
        "command", values.command, None, "ARGV",
        "The command to wrap, as a list of words. On the command line: whatever follows the options, or `--`.",
        ["node", "server.js"], flag=False,
    ),
    Setting(
        "shutdown_timeout", values.duration, "25s", "DURATION",
        "The whole budget: from the stop request to the last SIGKILL. Keep it below the orchestrator's grace period "
        "(Docker 10 s, Kubernetes and ECS 30 s).",
    ),
    Setting(
        "stop_on", values.request_signals, ["TERM", "INT"], "SIGNALS",
        "Which signals are a stop request. All others are forwarded to the command.",
    ),
    Setting(
        "stop_signal", values.stop_signal, "TERM", "SIGNAL",
        "What the command is sent to make it stop (nginx and unicorn: QUIT, HAProxy: USR1, PostgreSQL: INT).",
    ),
    Setting(
        "stop_timeout", values.duration, None, "DURATION",
        "From the stop signal to SIGKILL. Without it: all that is left of shutdown_timeout.", "20s",
    ),
    Setting(
        "escalation", values.escalation, [], "AFTER=SIGNAL,...",
        "Rungs between the stop signal and SIGKILL: signals to send, each so long after the stop signal.",
        [{"after": "10s", "signal": "INT"}],
    ),
    Setting(
        "kill_mode", values.choice("mixed", "group", "process"), "mixed", "MODE",
        "Who is sent the stop signal. mixed: the leader; what is left when it is gone is sent it then. group: its whole process "
        "group at once. process: the leader only. In every mode, stopped means that nothing is left, and SIGKILL goes to all.",
    ),
    Setting(
        "signal_map", values.signal_map, {}, "FROM=TO,...",
        "Signals to forward as another one, or not at all (none), or to restart by: the programs one after the other (restart).",
        {"HUP": "QUIT", "USR1": "none"},
    ),
    Setting(
        "success_exit_codes", values.success_codes, [], "CODES",
        "Exit statuses that count as 0 after a stop request; a signal's name means: ended by it, and it was we who sent it; "
        "drained: it was killed because it was drained and did not exit.",
        ["TERM"],
    ),
    Setting(
        "on_repeat", values.choice("escalate", "ignore"), "escalate", "WHAT",
        "A second stop request skips to the next rung, a third kills at once (escalate); or nothing of the kind (ignore).",
    ),
    Setting(
        "flush_timeout", values.duration, "1s", "DURATION",
        "In a container: how long to stay, when all is gone, for bytes the kernel has not delivered to the clients yet.",
    ),
    Setting(
        "parent_death_signal", values.signal, None, "SIGNAL",
        "Signal that gracewrap is sent when its own parent dies.", "TERM",
    ),
    Setting(
        "log.format", values.choice("auto", "text", "json"), "auto", "FORMAT",
        'text, json (one object a line), or auto: text on a terminal or beside lines of output = "prefix", else json.',
    ),
    Setting(
        "log.level", values.choice("debug", "info", "warning", "error"), "info", "LEVEL",
        "How much to say: debug, info, warning or error. With info, nothing is said until something happens.",
    ),
    Setting(
        "log.file", values.path, None, "FILE",
        "Where log lines go, appended. Without it: stderr.", "/var/log/gracewrap.log",
    ),
    Setting(
        "report.file", values.path, None, "FILE",
        "Write what happened as JSON, in one piece, when all is over.", "/run/gracewrap-report.json", ("--report",),
    ),
    Setting(
        "report.termination_log", values.path, None, "FILE",
        "The same in less than 4096 bytes, in place, as Kubernetes reads it.", "/dev/termination-log", ("--termination-log",),
    ),
)  # fmt: skip

CORE_BY_KEY = {setting.key: setting for setting in CORE}


class Settings(Record):
    """What is configured, parsed.  Fields as in the table, with underscores for dots; *origins* says where each came from.

    What has a default here is in config.further, which need not be loaded for it.  Put together from several settings are *drain*
    and *ready* (what is asked; None: nothing), *notify* (whether NOTIFY_SOCKET is offered) and *drain_linger* (None: off).
    """

    command: tuple[str, ...]
    shutdown_timeout: float
    stop_on: frozenset[int]
    stop_signal: int
    stop_timeout: float | None
    escalation: tuple[tuple[float, int], ...]
    kill_mode: str
    signal_map: Mapping[int, int]
    success_exit_codes: frozenset[int]
    on_repeat: str
    flush_timeout: float
    parent_death_signal: int | None
    log_format: str
    log_level: str
    log_file: str | None
    report_file: str | None
    report_termination_log: str | None
    origins: Mapping[str, str]

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

    propagation_delay: float = 0.0
    pre_stop: Action | None = None
    post_stop: Action | None = None
    ready: Probes | None = None
    notify: bool = False
    watchdog: float | None = None
    on_watchdog: str = "stop"

    drain: Probes | None = None
    drain_when: str = "after-signal"
    drain_start: Action | None = None
    drain_interval: float = 0.25
    drain_probe_timeout: float = 2.0
    drain_timeout: float | None = None
    drain_min_drain: float = 0.0
    drain_confirm: int = 2
    drain_linger: float | None = None

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
    drain_exec: tuple[str, ...] | None = None
    drain_file: str | None = None
    drain_file_is: str | None = None
    drain_contains: str | None = None
    drain_notify: bool = False
    drain_unit: str | None = None
    drain_all: tuple[Probe, ...] | None = None
    drain_any: tuple[Probe, ...] | None = None

    health_listen: tuple[Address, ...] = ()
    health_on_stop: str = "503"
    control_socket: str = "auto"  # "off", or the path
    report_prometheus_textfile: str | None = None
    report_pushgateway: Url | None = None
    report_pushgateway_job: str | None = None  # with a pushgateway never None

    # With [programs], *command* is empty, and each of *programs* has its own settings beside those that are for all.
    name: str = ""  # of [programs.NAME]; "": the one command
    programs: tuple[Settings, ...] = ()
    exit_code_from: str | None = None
    depends_on: Mapping[str, str] = {}  # program -> started, ready or completed
    stop_after: tuple[str, ...] = ()
    until: str = "gone"
    reserve: float | None = None
    oneshot: bool = False
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
    def is_managed(self) -> bool:
        """Whether there is more to decide than for one command that is started once and whose end is the end of all."""
        again = self.restart != "never" or self.on_exit != "shutdown" or self.on_failure != "shutdown"
        return bool(self.programs) or again or self.reads_output or values.RESTART in self.signal_map.values()

    @property
    def reads_output(self) -> bool:
        """Whether what the command writes goes through us."""
        return self.output != "inherit" or bool(self.ready and any(hasattr(probe, "log_line") for probe in self.ready.probes))

    @property
    def changes_process(self) -> bool:
        """Whether the command is to be another than we are: in its user, directory, environment, limits or stdin."""
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
        return self.umask is not None or self.nice is not None or bool(self.rlimits) or self.stdin == "null"

    @property
    def needs_errands(self) -> bool:
        """Whether anything is done on the side: probes, hooks, a push of metrics, hearing what the command says of itself."""
        hooks = self.pre_stop or self.post_stop or self.drain_start
        return bool(hooks or self.drain or self.ready or self.notify or self.report_pushgateway)

    @property
    def needs_http(self) -> bool:
        """Whether HTTP is spoken, for which h11 is needed: by a probe, a hook, health.listen or the push of metrics."""
        asked = (probe for several in (self.drain, self.ready) if several for probe in several.probes)
        parts = (*asked, self.pre_stop, self.post_stop, self.drain_start)
        return bool(self.health_listen or self.report_pushgateway or any(hasattr(part, "request") for part in parts))

    @property
    def tells_metrics(self) -> bool:
        """Whether metrics are left somewhere when all is over."""
        return self.report_prometheus_textfile is not None or self.report_pushgateway is not None
