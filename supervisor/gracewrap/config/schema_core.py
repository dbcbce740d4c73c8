"""The settings that a plain start may need: the stop, the log and the report; the others are in
config.schema.

Loaded at every start that has a setting, so a row here delays the command; what parses it must be
cheap to import.
"""

from __future__ import annotations

from gracewrap.config import values
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Setting:
    """One setting.  Not a Record: seventeen of these are made before the child runs, and this is
    ten times as quick."""

    __slots__ = (
        "aliases",
        "default",
        "example",
        "field",
        "flag",
        "help",
        "joined",
        "key",
        "metavar",
        "parse",
    )

    def __init__(
        self,
        key: str,  # its TOML name ("log.format" is `format` in `[log]`)
        parse: Callable[[object], object],
        default: object,  # as it would be written in TOML; None: there is none
        metavar: str,
        help: str,
        # as it would be written in TOML, where the default is no good example
        example: object = None,
        aliases: tuple[str, ...] = (),  # further flags
        flag: bool = True,  # can be given as a flag or a variable; else in the file only
        # what stands between the values of a repeated flag, which add up; a list and a map have ","
        joined: str = "",
    ) -> None:
        self.key, self.parse, self.default, self.metavar, self.help = (
            key,
            parse,
            default,
            metavar,
            help,
        )
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
        "The command to wrap, as a list of words. On the command line: whatever follows the "
        "options, or `--`.",
        ["node", "server.js"], flag=False,
    ),
    Setting(
        "shutdown_timeout", values.duration, "25s", "DURATION",
        "The whole budget: from the stop request to the last SIGKILL. Keep it below the "
        "orchestrator's grace period "
        "(Docker 10 s, Kubernetes and ECS 30 s).",
    ),
    Setting(
        "stop_on", values.request_signals, ["TERM", "INT"], "SIGNALS",
        "Signals that are a stop request; if this is not set, stop_signal is one as well. All "
        "others are forwarded to the command. Add the STOPSIGNAL of the base image (nginx, "
        "php-fpm: QUIT, httpd: WINCH).",
    ),
    Setting(
        "stop_signal", values.stop_signal, "TERM", "SIGNAL",
        "The signal that tells the command to stop (nginx and unicorn: QUIT, HAProxy: USR1, "
        "PostgreSQL: INT).",
    ),
    Setting(
        "stop_timeout", values.duration, None, "DURATION",
        "Time from the stop signal to SIGKILL. Default: all that is left of shutdown_timeout.",
        "20s",
    ),
    Setting(
        "escalation", values.escalation, [], "AFTER=SIGNAL,...",
        "Steps between the stop signal and SIGKILL: further signals, each with its time after "
        "the stop signal.",
        [{"after": "10s", "signal": "INT"}],
    ),
    Setting(
        "kill_mode", values.choice("mixed", "group", "process"), "mixed", "MODE",
        "Who gets the stop signal. mixed: the leader, and when it is gone, what it left behind."
        " group: its whole process group at once. process: the leader only. In every mode, "
        "stopped means that nothing is left, and SIGKILL goes to all.",
    ),
    Setting(
        "signal_map", values.signal_map, {}, "FROM=TO,...",
        "Forward a signal as another one, or not at all (none). Or let it restart the programs "
        "one after the other (restart), or reopen log.file (reopen).",
        {"HUP": "QUIT", "USR1": "none"},
    ),
    Setting(
        "success_exit_codes", values.success_codes, [], "CODES",
        "Exit statuses that count as 0 after a stop request. A signal name means: terminated by"
        " that signal, sent by gracewrap. drained means: killed because it was drained and did "
        "not exit.",
        ["TERM"],
    ),
    Setting(
        "on_repeat", values.choice("escalate", "ignore"), "escalate", "WHAT",
        "What repeated stop requests do. escalate: the second skips to the next step, the third"
        " kills. ignore: nothing.",
    ),
    Setting(
        "flush_timeout", values.duration, "1s", "DURATION",
        "In a container: how long to stay after the last exit so that the kernel can deliver the "
        "last bytes to the clients.",
    ),
    Setting(
        "parent_death_signal", values.signal, None, "SIGNAL",
        "Signal that gracewrap gets when its own parent exits.", "TERM",
    ),
    Setting(
        "log.format", values.choice("auto", "text", "json"), "auto", "FORMAT",
        'text, json (one object a line), or auto: text on a terminal or beside lines of output = '
        '"prefix", else json.',
    ),
    Setting(
        "log.level", values.level, "info", "LEVEL",
        "The least important level to log: debug, info, warning (or warn) or error. With info, "
        "nothing is logged until something happens.",
    ),
    Setting(
        "log.time", values.boolean, False, "BOOL",
        "Start text lines with the time, in UTC. JSON lines always have it.",
    ),
    Setting(
        "log.file", values.path, None, "FILE",
        "File to append log lines to. Default: stderr.", "/var/log/gracewrap.log",
    ),
    Setting(
        "report.file", values.path, None, "FILE",
        "Write a JSON report here at the end.",
        "/run/gracewrap-report.json", ("--report",),
    ),
    Setting(
        "report.termination_log", values.path, None, "FILE",
        "Write a report of less than 4096 bytes here, as Kubernetes reads it.",
        "/dev/termination-log", ("--termination-log",),
    ),
)  # fmt: skip

CORE_BY_KEY = {setting.key: setting for setting in CORE}
