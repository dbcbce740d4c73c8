"""The one table of settings: flags, variables, TOML keys, help, `init`, `check` and
docs/settings.md all come from it.

The rows that most runs need are in config.schema_core.  This module is loaded when any other
setting is named, or for the whole
table: its rows, and what parses them, would delay every start.
"""

from __future__ import annotations

from gracewrap.config import values
from gracewrap.config.parsers import hooks, lifecycle, preset_names, probes, process, urls
from gracewrap.config.schema_core import CORE, Setting

_FIRST = (
    Setting(
        "preset", preset_names.name, None, "NAME",
        "Settings for a well-known program; anything else that is set overrides them. gracewrap"
        " presets lists them.",
        "nginx",
    ),
)  # fmt: skip

_PROCESS = (
    Setting(
        "user", process.account, None, "USER",
        "Run it as this user (name or number), with the user's groups, and HOME, USER, LOGNAME "
        "and SHELL. gracewrap itself keeps its own user.",
        "www-data",
    ),
    Setting(
        "group", process.account, None, "GROUP",
        "Run it with this group. Default: the user's own.", "www-data",
    ),
    Setting(
        "supplementary_groups", process.accounts, [], "GROUPS",
        "Further groups, in addition to the user's own.", ["video"],
    ),
    Setting(
        "working_dir", process.place, None, "DIRECTORY",
        "Directory to start it in.", "/srv/app",
    ),
    Setting(
        "env", process.variables, {}, "NAME=VALUE",
        "Variables for it, in addition to the inherited ones. Keep a secret in a file and name "
        "the file: {file = ...} is replaced by its content.",
        {"DB_PASSWORD": {"file": "/run/secrets/db"}}, joined="\0",
    ),
    Setting(
        "env_file", process.places, [], "FILES",
        "Files with lines of NAME=VALUE. A later file overrides an earlier one, and env "
        "overrides both.",
        ["/etc/app.env"],
    ),
    Setting(
        "clear_env", values.boolean, False, "BOOL",
        "Start with an empty environment (not even PATH is inherited).",
    ),
    Setting(
        "umask", process.umask, None, "MASK", "File mode creation mask, in octal.", "022",
    ),
    Setting(
        "rlimits", process.limits, {}, "NAME=N,...",
        "Limits, as ulimit has them (nofile, nproc, core, memlock, ...): a number, unlimited, or "
        "soft:hard.",
        {"nofile": 65536, "core": "unlimited"},
    ),
    Setting(
        "nice", process.nice, None, "N",
        "Its scheduling priority, from -20 (first) to 19 (last).", 10,
    ),
    Setting(
        "stdin", values.choice("inherit", "null"), "inherit", "WHAT",
        "Standard input: gracewrap's own (inherit) or empty (null). Default with several "
        "programs: null.",
    ),
)  # fmt: skip

_AROUND = (
    Setting(
        "propagation_delay", values.duration, "0s", "DURATION",
        "Keep serving this long after /readyz has turned 503, so that load balancers notice, "
        "before the stop signal.", "5s",
    ),
    Setting(
        "pre_stop", hooks.action, None, "COMMAND|URL",
        "Run a command, or POST to a URL, before the stop signal. It counts against the budget;"
        " a failure is logged and does not stop the stop.",
        {"command": ["./deregister"], "timeout": "3s"},
    ),
    Setting(
        "post_stop", hooks.action, None, "COMMAND|URL",
        "The same after the last exit, within what is left of the budget. GRACEWRAP_OUTCOME and"
        " other variables say what happened.",
        ["./report", "done"],
    ),
    Setting(
        "ready", probes.ready, None, "PROBE",
        "When the command is ready, for /readyz: a URL that answers 200, tcp (it listens) or "
        "notify (READY=1). The probe is repeated while the command runs. In the file also "
        "a table as in [drain], {log_line = \"REGEX\"} (it writes such a line), or {all = [...]}; "
        "and beside the probe every = \"1s\", failures = 3 and passes = 1 (in a row), "
        "timeout = \"2s\".",
        "http://127.0.0.1:3000/health",
    ),
    Setting(
        "ready_timeout", values.span, None, "DURATION",
        "Time limit for becoming ready. After that the program has failed, and on_failure (or "
        "restart) applies. Default: no limit.", "60s",
    ),
    Setting(
        "live", probes.live, None, "PROBE",
        "When the command is healthy: a URL that answers 200, or tcp (it listens). It counts "
        "once it has passed for the first time; on_unhealthy says what happens when it fails. In "
        "the file as ready, and every = \"10s\", failures = 3 and passes = 1 (in a row), "
        "timeout = \"2s\".",
        "http://127.0.0.1:3000/live",
    ),
    Setting(
        "on_unhealthy", values.choice("restart", "stop", "tell"), "restart", "WHAT",
        "If live fails: restart the command, stop everything and exit (stop), or only report it"
        " in the log and /livez (tell).",
    ),
    Setting(
        "notify", values.boolean, False, "BOOL",
        "Offer the command NOTIFY_SOCKET, as systemd does. On if another setting needs it.",
    ),
    Setting(
        "agent", values.choice("off", "node", "auto"), "off", "LANGUAGE",
        "Load an agent into the command that counts requests and jobs in flight, hears of the stop "
        "before the stop signal, and finishes what has begun if the command has no handler. auto: "
        "if the command is node, npm or the like.", "node",
    ),
    Setting(
        "watchdog", values.span, None, "DURATION",
        "The command must send WATCHDOG=1 to NOTIFY_SOCKET at least this often.", "30s",
    ),
    Setting(
        "on_watchdog", values.choice("stop", "ignore"), "stop", "WHAT",
        "If it does not: stop everything and exit (stop), or only log it (ignore).",
    ),
)  # fmt: skip

_RUNNING = (
    Setting(
        "restart", lifecycle.restart, "never", "WHEN",
        "When to restart it: never, on-failure (unless it exits with 0), or always. Not after a"
        " stop request.",
    ),
    Setting(
        "backoff", lifecycle.backoff, None, "DURATION",
        "Delay before the first restart. It doubles each time, up to 30s, and resets after the "
        'program has run for 10s. In the file also {first = ..., factor = 2, cap = "30s", '
        'jitter = 0.25, stable = "10s"}. Default: 500ms.',
        "1s",
    ),
    Setting(
        "max_restarts", lifecycle.max_restarts, None, "N",
        "How many restarts in a row; after that on_exit or on_failure applies. Default: no "
        "limit.", 5,
    ),
    Setting(
        "on_exit", lifecycle.ending, "shutdown", "WHAT",
        "If it exits with 0 and is not restarted: shutdown (stop all, in order), restart or "
        "ignore.",
    ),
    Setting(
        "on_failure", lifecycle.ending, "shutdown", "WHAT",
        "The same if it fails or cannot be started.",
    ),
    Setting(
        "reload_signal", values.signal, None, "SIGNAL",
        "The signal that makes it reload; gracewrap sends it for SIGHUP (nginx: HUP, HAProxy: "
        "USR2). If one of several programs sets it, those that do not get no SIGHUP.",
        "HUP",
    ),
    Setting(
        "dump_signal", values.dump_signal, None, "SIGNAL",
        "The signal that makes it dump what it is doing (JVM, Go: QUIT; Node.js with "
        "--report-on-signal: USR2; Python with faulthandler.register: USR1). Sent once, at half of "
        "its time to stop, to those of its processes that handle it.",
        "QUIT",
    ),
    Setting(
        "output", values.choice("inherit", "prefix", "json"), "inherit", "HOW",
        "Where its output goes. inherit: straight to gracewrap's own stdout and stderr. prefix:"
        " there too, each line after the program's name. json: each line as a JSON object.",
    ),
)  # fmt: skip

_PROGRAMS = (
    Setting(
        "depends_on", lifecycle.depends_on, {}, "PROGRAMS",
        "Programs that must be up before it starts, and that stop after it. In a list, they "
        'must be ready (a oneshot: completed); {db = "started"} sets the condition: started, '
        "ready or completed.",
        ["db"], flag=False,
    ),
    Setting(
        "stop_after", lifecycle.names, [], "PROGRAMS",
        "Stop it only after these have stopped, whatever the start order.",
        ["web"], flag=False,
    ),
    Setting(
        "until", values.choice("gone", "drained"), "gone", "WHAT",
        "What the programs that stop before it must be before its turn: gone, or only drained.",
        flag=False,
    ),
    Setting(
        "reserve", values.duration, None, "DURATION",
        "How much of shutdown_timeout is kept for its stop, however long the others take. Without "
        "it: stop_timeout, else a tenth of shutdown_timeout, at most 2s.",
        "8s", flag=False,
    ),
    Setting(
        "oneshot", values.boolean, False, "BOOL",
        "It runs once and must exit with 0, as a migration does; programs that depend on it "
        "wait for that.",
        flag=False,
    ),
    Setting(
        "readyz", values.boolean, True, "BOOL",
        "Whether it counts for /readyz and gracewrap health. false: for a program that may be "
        "down without harm.", flag=False,
    ),
    Setting(
        "exit_code_from", lifecycle.name, None, "PROGRAM",
        "For all programs: the one whose exit status is gracewrap's. Default: the first that "
        "failed.", "web",
    ),
)  # fmt: skip

_DRAIN = (
    Setting(
        "drain.when", values.choice("after-signal", "before-signal"), "after-signal", "WHEN",
        "before-signal: delay the stop signal until drained, for commands that drop their work "
        "on it.",
    ),
    Setting(
        "drain.start", hooks.action, None, "COMMAND|URL",
        "Run this, or POST to it, to make the command take no new work.",
        "http://127.0.0.1:9901/drain_listeners",
    ),
    Setting(
        "drain.tcp", probes.PARSERS["tcp"], None, "auto|PORTS",
        "Ask the kernel: drained when no connection to these ports has a request in flight. auto: "
        "the ports that it listens on.",
        "auto", joined=",",
    ),
    Setting(
        "drain.mode", probes.PARSERS["mode"], None, "MODE",
        "tcp: idle, listener-closed or no-connections. Default: idle.", "idle",
    ),
    Setting(
        "drain.quiet", probes.PARSERS["quiet"], None, "DURATION",
        "tcp, idle: a connection on which bytes moved within this time (a stream) also counts "
        "as in flight. Default: 2s.", "2s",
    ),
    Setting(
        "drain.outgoing", probes.PARSERS["outgoing"], None, "WHAT",
        "tcp: which connections to others (a database, a queue) keep linger from ending a command. "
        "wait: any that was ever used. quiet: those used within quiet. Default: wait.", "quiet",
    ),
    Setting(
        "drain.http", probes.PARSERS["http"], None, "URL",
        "Ask this URL: http://, https:// or unix:///SOCKET:/PATH. Drained when it answers 200, or "
        "as set below.",
        "http://127.0.0.1:3000/drain",
    ),
    Setting(
        "drain.method", probes.PARSERS["method"], None, "METHOD", "http: the method. Default: "
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
        "drain.insecure", probes.PARSERS["insecure"], False, "BOOL",
        "http: skip the verification of the certificate.",
    ),
    Setting(
        "drain.status", probes.PARSERS["status"], None, "STATUS",
        "http: drained if the answer has this status.", 204,
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
        "json, metric, text: drained if the value is this one; a number also if it is less. "
        "Default: 0.", 0,
    ),
    Setting(
        "drain.at_most", probes.PARSERS["at_most"], None, "NUMBER",
        "json, metric, text: drained if the value is not above this one.", 2,
    ),
    Setting(
        "drain.absent", probes.PARSERS["absent"], None, "WHAT",
        "metric: what a missing metric counts as, busy or zero. Default: busy.", "zero",
    ),
    Setting(
        "drain.on_refused", probes.PARSERS["on_refused"], None, "WHAT",
        "http: what a refused connection means. wait: nothing. drained: drained. fail: stop "
        "asking. Default: wait.",
        "drained",
    ),
    Setting(
        "drain.exec", probes.PARSERS["exec"], None, "COMMAND",
        "Run this: drained when it prints 0. Another number is what is in flight; without a "
        "number, exit status 0 is drained.",
        ["./drained", "--quiet"],
    ),
    Setting(
        "drain.file", probes.PARSERS["file"], None, "FILE", "Look at this file: drained when it "
                                                            "exists.", "/run/drained",
    ),
    Setting(
        "drain.file_is", probes.PARSERS["file_is"], None, "STATE",
        "file: drained when it exists, or when it is absent. Default: exists.", "absent",
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
        "drain.agent", probes.PARSERS["agent"], False, "BOOL",
        "Drained when the agent in the command counts no request and no job. On if agent is on "
        "and no other probe is set.",
    ),
    Setting(
        "drain.unit", probes.PARSERS["unit"], None, "WORD",
        "http, tcp, exec: what is counted, for the log (jobs, requests).", "jobs",
    ),
    Setting(
        "drain.all", probes.elements, None, "PROBES",
        "Several probes instead of one, each with its settings in a table: drained when all of "
        "them are.",
        [{"tcp": "auto"}, {"http": "http://127.0.0.1:3000/", "json": "/jobs"}], flag=False,
    ),
    Setting(
        "drain.any", probes.elements, None, "PROBES", "The same: drained when any of them is.",
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
        "Time limit for the drain. Default: as long as there is time.", "20s",
    ),
    Setting(
        "drain.min_drain", values.duration, "0s", "DURATION",
        "Ignore verdicts before this time has passed, because work may just have arrived.",
    ),
    Setting(
        "drain.confirm", probes.confirm, 2, "N", "How many drained answers in a row are needed.",
    ),
    Setting(
        "drain.streams", values.duration_or_wait, None, "DURATION|wait",
        "tcp, agent: how long to wait for streams (server-sent events, WebSocket), idle ones too. "
        "wait: as long as there is time. Default: as long as they move.", "10s",
    ),
    Setting(
        "drain.linger", values.span_or_off, None, "DURATION|off",
        "Drained but still running: kill it after this. Default: 2s, or off if the verdict may "
        "rest on tcp alone, which does not see work in the background.",
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
        "The answer of /readyz after a stop request: 503, or what it was before (keep).",
    ),
    Setting(
        "control.socket", urls.control_socket, "auto", "auto|off|PATH",
        "Where gracewrap status, drain, stop and health find this gracewrap.",
    ),
)  # fmt: skip

_REPORT = (
    Setting(
        "report.prometheus_textfile", values.path, None, "FILE",
        "Write the metrics here at the end, for the textfile collector of node_exporter.",
        "/var/lib/node_exporter/web.prom",
    ),
    Setting(
        "report.pushgateway", urls.gateway, None, "URL",
        "Push the metrics to this Prometheus Pushgateway at the end.", "http://pushgateway:9091",
    ),
    Setting(
        "report.pushgateway_job", urls.job, None, "NAME",
        "The job to push them under. Default: the command's name.", "web",
    ),
)  # fmt: skip

FURTHER = (*_FIRST, *_PROCESS, *_AROUND, *_RUNNING, *_PROGRAMS, *_DRAIN, *_ENDPOINTS, *_REPORT)
_ROOT = tuple(setting for setting in CORE if "." not in setting.key)
_CORE_TABLES = tuple(setting for setting in CORE if "." in setting.key)


# A TOML table stands in one piece.
TABLE = (
    *_ROOT[:1],
    *_FIRST,
    *_ROOT[1:],
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
    "": ("The stop", "Which signals the command gets, when, and how much time it has."),
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
        "What happens when the command exits by itself, and where its output goes.",
    ),
    "programs": (
        "Several programs",
        "Each has its own table, [programs.NAME], with its command and any setting of a "
        "command and in [drain]; "
        "[defaults] applies to all of them. These settings are for the order in which they are "
        "started and stopped.",
    ),
    "drain": (
        "Drain",
        "A probe finds out when the work is done, so that the stop takes no longer: one of tcp, "
        "http, exec, file and notify (or several: all, any). The command's own exit always ends "
        "it.",
    ),
    "health": ("Health", "HTTP endpoints for load balancers, Kubernetes and Prometheus."),
    "control": ("Control", "The socket that the subcommands use; on by default."),
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


# What is said for all of several programs, and of each as well.
OF_BOTH = frozenset({"signal_map"})
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
