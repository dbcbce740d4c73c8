"""The one table of settings: flags, variables, TOML keys, help, `init`, `check` and
docs/settings.md all come from it.

The rows that most runs need are in config.schema_core.  This module is loaded when any other
setting is named, or for the whole
table: its rows, and what parses them, would delay every start.
"""

from __future__ import annotations

from gracewrap.config import values
from gracewrap.config.parsers import hooks, lifecycle, probes, process, urls
from gracewrap.config.schema_core import CORE, Setting

_PROCESS = (
    Setting(
        "user", process.account, None, "USER",
        "Run it as this user, by name or number; gracewrap itself stays what it is. It gets the "
        "user's groups, and HOME, USER, "
        "LOGNAME and SHELL.",
        "www-data",
    ),
    Setting(
        "group", process.account, None, "GROUP",
        "Run it with this group. Without it: the user's own.", "www-data",
    ),
    Setting(
        "supplementary_groups", process.accounts, [], "GROUPS",
        "Further groups, beside those that the user is in.", ["video"],
    ),
    Setting(
        "working_dir", process.place, None, "DIRECTORY",
        "Start it in this directory.", "/srv/app",
    ),
    Setting(
        "env", process.variables, {}, "NAME=VALUE",
        "Variables for it, beside those that gracewrap has. A secret is better kept in a file, and "
        "named in the table: "
        "{file = ...} is what is in it.",
        {"DB_PASSWORD": {"file": "/run/secrets/db"}}, joined="\0",
    ),
    Setting(
        "env_file", process.places, [], "FILES",
        "Files of variables, in lines of NAME=VALUE. Of two of the same name the later file "
        "counts, and env above all.",
        ["/etc/app.env"],
    ),
    Setting(
        "clear_env", values.boolean, False, "BOOL",
        "Do not hand on the variables that gracewrap has, PATH neither.",
    ),
    Setting(
        "umask", process.umask, None, "MASK", "Which permissions its new files do not get, in "
                                              "octal digits.", "022",
    ),
    Setting(
        "rlimits", process.limits, {}, "NAME=N,...",
        "Limits, as ulimit has them (nofile, nproc, core, memlock, ...): a number, unlimited, or "
        "soft:hard.",
        {"nofile": 65536, "core": "unlimited"},
    ),
    Setting(
        "nice", process.nice, None, "N", "Its priority, from -20 (first) to 19 (last).", 10,
    ),
    Setting(
        "stdin", values.choice("inherit", "null"), "inherit", "WHAT",
        "What it reads: what gracewrap was given (inherit), or nothing (null). Several programs: "
        "nothing, unless it is written.",
    ),
)  # fmt: skip

_AROUND = (
    Setting(
        "propagation_delay", values.duration, "0s", "DURATION",
        "Go on serving this long after /readyz turned 503, so that load balancers notice, before "
        "the stop signal.", "5s",
    ),
    Setting(
        "pre_stop", hooks.action, None, "COMMAND|URL",
        "Run a command, or POST to a URL, before the stop signal. It counts against the budget; a "
        "failure is told, not fatal.",
        {"command": ["./deregister"], "timeout": "3s"},
    ),
    Setting(
        "post_stop", hooks.action, None, "COMMAND|URL",
        "The same after the last exit, within what is left of the budget; GRACEWRAP_OUTCOME and "
        "others tell it what happened.",
        ["./report", "done"],
    ),
    Setting(
        "ready", probes.ready, None, "PROBE",
        "When the command is ready, for /readyz: a URL that answers 200, tcp (it listens) or "
        "notify (READY=1). In the file also "
        "a table as in [drain], {log_line = \"REGEX\"} (it writes such a line), or {all = [...]}.",
        "http://127.0.0.1:3000/health",
    ),
    Setting(
        "notify", values.boolean, False, "BOOL",
        "Offer the command NOTIFY_SOCKET, as systemd does. On by itself where a setting needs it.",
    ),
    Setting(
        "watchdog", values.span, None, "DURATION",
        "The command must send WATCHDOG=1 to NOTIFY_SOCKET at least this often.", "30s",
    ),
    Setting(
        "on_watchdog", values.choice("stop", "ignore"), "stop", "WHAT",
        "When it does not: stop it and exit, or ignore it and only say so.",
    ),
)  # fmt: skip

_RUNNING = (
    Setting(
        "restart", lifecycle.restart, "never", "WHEN",
        "When to start it again: never, on-failure (it did not exit with 0), or always. Not once a "
        "stop was requested.",
    ),
    Setting(
        "backoff", lifecycle.backoff, None, "DURATION",
        "How long to wait before that. Twice as long each time, up to 30s, and anew when it has "
        "run for 10s. In the file also "
        "{first = ..., factor = 2, cap = \"30s\", jitter = 0.25, stable = \"10s\"}. Without it: "
        "500ms.",
        "1s",
    ),
    Setting(
        "max_restarts", lifecycle.max_restarts, None, "N",
        "How many times in a row; then on_exit or on_failure says what happens. Without it: no "
        "limit.", 5,
    ),
    Setting(
        "on_exit", lifecycle.ending, "shutdown", "WHAT",
        "When it exits with 0 and is not restarted: shutdown (stop all, in order), restart it, or "
        "ignore it.",
    ),
    Setting(
        "on_failure", lifecycle.ending, "shutdown", "WHAT",
        "The same when it fails, or cannot be started.",
    ),
    Setting(
        "output", values.choice("inherit", "prefix", "json"), "inherit", "HOW",
        "Where what it writes goes. inherit: straight to where gracewrap's own output goes. "
        "prefix: there too, each line behind "
        "its name. json: each line as a JSON object.",
    ),
)  # fmt: skip

_PROGRAMS = (
    Setting(
        "depends_on", lifecycle.depends_on, {}, "PROGRAMS",
        "What must be there before it is started; it is stopped before them. A list waits until "
        "they are ready (a oneshot: "
        "completed); {db = \"started\"} says what to wait for: started, ready or completed.",
        ["db"], flag=False,
    ),
    Setting(
        "stop_after", lifecycle.names, [], "PROGRAMS",
        "It is told to stop only when these have been stopped, in whatever order they were "
        "started.",
        ["web"], flag=False,
    ),
    Setting(
        "until", values.choice("gone", "drained"), "gone", "WHAT",
        "What those that are stopped before it must be before it is its turn: gone, or only "
        "drained.", flag=False,
    ),
    Setting(
        "reserve", values.duration, None, "DURATION",
        "How much of shutdown_timeout is kept for its stop, however long the others take. Without "
        "it: stop_timeout, else a fair "
        "share.",
        "8s", flag=False,
    ),
    Setting(
        "oneshot", values.boolean, False, "BOOL",
        "It is to run once and exit with 0, as a migration: what depends on it waits for that.",
        flag=False,
    ),
    Setting(
        "exit_code_from", lifecycle.name, None, "PROGRAM",
        "For all programs: whose exit status is gracewrap's. Without it: that of the first which "
        "failed.", "web",
    ),
)  # fmt: skip

_DRAIN = (
    Setting(
        "drain.when", values.choice("after-signal", "before-signal"), "after-signal", "WHEN",
        "before-signal: hold the stop signal back until drained, for commands that drop their work "
        "on it.",
    ),
    Setting(
        "drain.start", hooks.action, None, "COMMAND|URL",
        "Run this, or POST to it, to tell the command to take no new work.", "http://127.0.0.1:9901/drain_listeners",
    ),
    Setting(
        "drain.tcp", probes.PARSERS["tcp"], None, "auto|PORTS",
        "Ask the kernel: drained when no connection to these ports has a request in flight. auto: "
        "the ports that it listens on.",
        "auto", joined=",",
    ),
    Setting(
        "drain.mode", probes.PARSERS["mode"], None, "MODE",
        "tcp: idle, listener-closed or no-connections. Without it: idle.", "idle",
    ),
    Setting(
        "drain.quiet", probes.PARSERS["quiet"], None, "DURATION",
        "tcp, idle: a connection is also in flight if anything moved within this time (streams). "
        "Without it: 2s.", "2s",
    ),
    Setting(
        "drain.http", probes.PARSERS["http"], None, "URL",
        "Ask this URL: http://, https:// or unix:///SOCKET:/PATH. Drained when it answers 200, or "
        "what is written below.",
        "http://127.0.0.1:3000/drain",
    ),
    Setting(
        "drain.method", probes.PARSERS["method"], None, "METHOD", "http: the method. Without it: "
                                                                  "GET.", "GET",
    ),
    Setting(
        "drain.headers", probes.PARSERS["headers"], [], "NAME: VALUE",
        "http: request headers. A secret is better kept in a variable or a file, and named in the "
        "file.",
        {"Authorization": {"file": "/run/secrets/token", "prefix": "Bearer "}}, joined="\n",
    ),
    Setting(
        "drain.ca", probes.PARSERS["ca"], None, "FILE",
        "http: certificates to trust (PEM) instead of the system's.", "/etc/ssl/ca.pem",
    ),
    Setting(
        "drain.insecure", probes.PARSERS["insecure"], False, "BOOL", "http: do not look at the "
                                                                     "certificate.",
    ),
    Setting(
        "drain.status", probes.PARSERS["status"], None, "STATUS", "http: drained when this is the "
                                                                  "status.", 204,
    ),
    Setting(
        "drain.json", probes.PARSERS["json"], None, "POINTER",
        "http: look at this place (JSON Pointer) in the answer; of a list or an object, at the sum "
        "of its numbers.",
        "/active/jobs",
    ),
    Setting(
        "drain.metric", probes.PARSERS["metric"], None, "METRIC",
        "http: look at the sum of a Prometheus metric, with or without {label=\"value\"}.",
        "requests_in_flight",
    ),
    Setting(
        "drain.text", probes.PARSERS["text"], None, "REGEX",
        "http: look at the number that this regular expression finds in its first group.",
        r"active: (\d+)",
    ),
    Setting(
        "drain.equals", probes.PARSERS["equals"], None, "VALUE",
        "json, metric, text: drained when the value is this one; a number also when it is less. "
        "Without it: 0.", 0,
    ),
    Setting(
        "drain.at_most", probes.PARSERS["at_most"], None, "NUMBER",
        "json, metric, text: drained when the value is not above this one.", 2,
    ),
    Setting(
        "drain.absent", probes.PARSERS["absent"], None, "WHAT",
        "metric: what one that is not there counts as, busy or zero. Without it: busy.", "zero",
    ),
    Setting(
        "drain.on_refused", probes.PARSERS["on_refused"], None, "WHAT",
        "http: what a refused connection means. wait: nothing. drained: that. fail: stop asking, "
        "the probe is of no use. "
        "Without it: wait.",
        "drained",
    ),
    Setting(
        "drain.exec", probes.PARSERS["exec"], None, "COMMAND",
        "Run this: drained when it exits with 0; a number that it prints is what is in flight.",
        ["./drained", "--quiet"],
    ),
    Setting(
        "drain.file", probes.PARSERS["file"], None, "FILE", "Look at this file: drained when it "
                                                            "exists.", "/run/drained",
    ),
    Setting(
        "drain.file_is", probes.PARSERS["file_is"], None, "STATE",
        "file: drained when it exists, or when it is absent. Without it: exists.", "absent",
    ),
    Setting(
        "drain.contains", probes.PARSERS["contains"], None, "TEXT", "file: it must also hold this "
                                                                    "text.", "stopping",
    ),
    Setting(
        "drain.notify", probes.PARSERS["notify"], False, "BOOL",
        "Drained when the command sends X_GRACEWRAP=drained to NOTIFY_SOCKET.",
    ),
    Setting(
        "drain.unit", probes.PARSERS["unit"], None, "WORD", "http, tcp, exec: what is counted, for "
                                                            "the log.", "jobs",
    ),
    Setting(
        "drain.all", probes.elements, None, "PROBES",
        "Several probes instead of one, each with its settings in a table: "
        "drained when all say so.",
        [{"tcp": "auto"}, {"http": "http://127.0.0.1:3000/", "json": "/jobs"}], flag=False,
    ),
    Setting(
        "drain.any", probes.elements, None, "PROBES", "The same: drained when any of them says so.",
        [{"notify": True}, {"file": "/run/drained"}], flag=False,
    ),
    Setting(
        "drain.interval", values.span, "250ms", "DURATION", "How often to ask.",
    ),
    Setting(
        "drain.probe_timeout", values.span, "2s", "DURATION", "How long one answer may take.",
    ),
    Setting(
        "drain.timeout", values.span, None, "DURATION",
        "How long to wait for it to be drained. Without it: as long as there is time.", "20s",
    ),
    Setting(
        "drain.min_drain", values.duration, "0s", "DURATION", "How long no answer counts, for work "
                                                              "that has just come in.",
    ),
    Setting(
        "drain.confirm", probes.confirm, 2, "N", "How many times in a row it must be drained.",
    ),
    Setting(
        "drain.linger", values.span_or_off, None, "DURATION|off",
        "Drained but still running: kill it after this. Without it: 2s, or off if the verdict may "
        "rest on tcp alone, which does "
        "not see work in the background.",
        "2s",
    ),
)  # fmt: skip

_ENDPOINTS = (
    Setting(
        "health.listen", urls.addresses, [], "ADDRESSES",
        "Answer /livez, /readyz, /metrics and /status here: :9000, 127.0.0.1:9000, [::1]:9000, "
        "unix:/run/health.sock.",
        [":9000"],
    ),
    Setting(
        "health.on_stop", values.choice("503", "keep"), "503", "WHAT",
        "What /readyz says from the stop request on: 503, or what it said before (keep).",
    ),
    Setting(
        "control.socket", urls.control_socket, "auto", "auto|off|PATH",
        "Where gracewrap status, drain, stop and health find this one.",
    ),
)  # fmt: skip

_REPORT = (
    Setting(
        "report.prometheus_textfile", values.path, None, "FILE",
        "Write the metrics here when all is over, for the textfile collector of node_exporter.",
        "/var/lib/node_exporter/web.prom",
    ),
    Setting(
        "report.pushgateway", urls.gateway, None, "URL",
        "Push the metrics to this Prometheus Pushgateway when all is over.", "http://pushgateway:9091",
    ),
    Setting(
        "report.pushgateway_job", urls.job, None, "NAME", "Under this job. Without it: the "
                                                          "command's name.", "web",
    ),
)  # fmt: skip

FURTHER = (*_PROCESS, *_AROUND, *_RUNNING, *_PROGRAMS, *_DRAIN, *_ENDPOINTS, *_REPORT)
_ROOT = tuple(setting for setting in CORE if "." not in setting.key)
_CORE_TABLES = tuple(setting for setting in CORE if "." in setting.key)


# A TOML table stands in one piece.
TABLE = (
    *_ROOT,
    *_PROCESS,
    *_AROUND,
    *_RUNNING,
    *_PROGRAMS,
    *_DRAIN,
    *_ENDPOINTS,
    *_CORE_TABLES,
    *_REPORT,
)

BY_KEY = {setting.key: setting for setting in TABLE}

OPTIONS = {
    name: setting
    for setting in TABLE
    if setting.flag
    for name in (setting.option, *setting.aliases)
}


# What each table of the file is for, in a heading and a sentence.
SECTIONS = {
    "": ("The stop", "What the command is sent, when, and how much time it has."),
    "process": (
        "The process",
        "As whom, where, and with which variables and limits the command runs; so do the commands "
        "of hooks and probes.",
    ),
    "around": (
        "Before and after the stop signal",
        "Hooks, and what the command says about itself.",
    ),
    "running": (
        "Running",
        "What happens when the command ends by itself, and where what it writes goes.",
    ),
    "programs": (
        "Several programs",
        "Each is a table of its own, [programs.NAME], with its command and any setting of a "
        "command and in [drain]; what "
        "[defaults] says is said of all. These settings are for the order in which they are "
        "started and stopped.",
    ),
    "drain": (
        "Drain",
        "A probe says when the work is done, so that the stop takes no longer: one of tcp, http, "
        "exec, file and notify (or "
        "several: all, any). The command's own exit always ends it.",
    ),
    "health": ("Health", "HTTP endpoints for load balancers, Kubernetes and Prometheus."),
    "control": ("Control", "A socket for the subcommands, on by itself."),
    "log": ("Log", "What gracewrap says while it runs."),
    "report": ("Report", "What it leaves behind."),
}


def section(setting: Setting) -> str:
    """Return the key in SECTIONS of the part that a setting stands in."""
    for name, rows in (
        ("process", _PROCESS),
        ("around", _AROUND),
        ("running", _RUNNING),
        ("programs", _PROGRAMS),
    ):
        if setting in rows:
            return name
    return setting.key.rpartition(".")[0]


# What is said once for all of several programs, and not of each.
GLOBAL = frozenset(
    {
        *(
            "shutdown_timeout",
            "stop_on",
            "signal_map",
            "on_repeat",
            "flush_timeout",
            "parent_death_signal",
            "exit_code_from",
        ),
        *(
            setting.key
            for setting in TABLE
            if setting.key.startswith(("log.", "report.", "health.", "control."))
        ),
    }
)
