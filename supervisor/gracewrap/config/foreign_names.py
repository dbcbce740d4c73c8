"""Names that other supervisors and orchestrators give to what gracewrap has."""

from __future__ import annotations

TIMEOUT, BUDGET, SIGNAL, MODE, MAP = (
    "stop_timeout",
    "shutdown_timeout",
    "stop_signal",
    "kill_mode",
    "signal_map",
)

CODES, LEVEL, COMMAND = "success_exit_codes", "log.level", "command"
PROPAGATION, READY, LISTEN = "propagation_delay", "ready", "health.listen"
RESTART, BACK_OFF, MOST_RESTARTS, DEPENDS_ON = "restart", "backoff", "max_restarts", "depends_on"


# Names that others use -> what gracewrap calls this, and whose word it is ("": nobody's in
# particular).
# Here as below without case, dashes and underscores.
FOREIGN: dict[str, tuple[str, str]] = {
    "stopwaitsecs": (TIMEOUT, "supervisord"),
    "stopsignal": (SIGNAL, "supervisord and Docker"),
    "killdelay": (TIMEOUT, "pebble"),
    "gracefultimeout": (TIMEOUT, "gunicorn and circus"),
    "timeoutgracefulshutdown": (TIMEOUT, "uvicorn"),
    "stopgraceperiod": (BUDGET, "Compose"),
    "terminationgraceperiodseconds": (BUDGET, "Kubernetes"),
    "terminationmessagepath": ("report.termination_log", "Kubernetes"),
    "graceperiod": (BUDGET, ""),
    "gracetimeout": (BUDGET, ""),
    "killafter": (BUDGET, "timeout(1)"),
    "timeout": (BUDGET, ""),
    "timeoutsec": (BUDGET, "systemd"),
    "timeoutstopsec": (BUDGET, "systemd"),
    "killsignal": (SIGNAL, "systemd"),
    "successexitstatus": (CODES, "systemd"),
    "killtimeout": (BUDGET, "Nomad and Fly"),
    "stoptimeout": (TIMEOUT, "ECS and containerpilot"),
    "timeoutkill": (TIMEOUT, "s6"),
    "downsignal": (SIGNAL, "s6"),
    "shutdowntimeout": (BUDGET, ""),
    "parentdeathsig": ("parent_death_signal", "tini"),
    "rewrite": (MAP, "dumb-init"),
    "requestacceptgracetimeout": (PROPAGATION, "Traefik"),
    "shutdowndelay": (PROPAGATION, "Nomad and lightship"),
    "terminationdrainduration": (PROPAGATION, "Istio"),
    "beforeshutdown": (PROPAGATION, "terminus"),
    "deregistrationdelay": (PROPAGATION, "AWS load balancers"),
    "prestopsleep": (PROPAGATION, ""),
    "minimumdrainduration": ("drain.min_drain", "Istio"),
    "exitonzeroactiveconnections": ("drain.tcp", "Istio"),
    "draintimes": ("drain.timeout", "Envoy"),
    "draintimeout": ("drain.timeout", ""),
    "hardstopafter": (BUDGET, "HAProxy"),
    "workershutdowntimeout": (BUDGET, "nginx, Puma and Dramatiq"),
    "timeoutpershutdownphase": (BUDGET, "Spring Boot"),
    "gracefulshutdowntimeout": (BUDGET, "lightship"),
    "prestop": ("pre_stop", "Kubernetes"),
    "execstop": ("pre_stop", "systemd"),
    **dict.fromkeys(("stopcommand", "onstop"), ("pre_stop", "")),
    "execstoppost": ("post_stop", "systemd"),
    "preexit": ("post_stop", ""),
    "poststop": ("post_stop", "OCI hooks"),
    "finish": ("post_stop", "s6 and runit"),
    "readinessprobe": (READY, "Kubernetes and process-compose"),
    "readiness": (READY, ""),
    **dict.fromkeys(("readylogline", "logline"), (READY, "process-compose")),
    "startupprobe": (READY, "Kubernetes"),
    "healthcheck": (LISTEN, "Docker"),
    "livenessprobe": ("live", "Kubernetes"),
    "liveness": ("live", ""),
    "watchdogsec": ("watchdog", "systemd"),
    **dict.fromkeys(("uid", "runas"), ("user", "")),
    "runasuser": ("user", "Kubernetes"),
    "setuser": ("user", ""),
    **dict.fromkeys(("gid", "setgroup"), ("group", "")),
    "runasgroup": ("group", "Kubernetes"),
    "groupadd": ("supplementary_groups", "Docker"),
    **dict.fromkeys(("directory", "dir", "cwd", "chdir"), ("working_dir", "")),
    "workdir": ("working_dir", "Docker"),
    "workingdirectory": ("working_dir", "systemd"),
    **dict.fromkeys(("environment", "environ", "envvars"), ("env", "")),
    "environmentfile": ("env_file", "systemd"),
    **dict.fromkeys(("ulimit", "ulimits"), ("rlimits", "Docker")),
    **dict.fromkeys(
        ("limitnofile", "limitnproc", "limitcore", "limitmemlock"), ("rlimits", "systemd")
    ),
    "minfds": ("rlimits", "supervisord"),
    "renice": ("nice", ""),
    "standardinput": ("stdin", "systemd"),
    "autorestart": (RESTART, "supervisord"),
    "restartpolicy": (RESTART, "Docker and Kubernetes"),
    **dict.fromkeys(("respawn", "autorespawn"), (RESTART, "")),
    **dict.fromkeys(("restartsec", "restartmaxdelaysec", "restartsteps"), (BACK_OFF, "systemd")),
    **dict.fromkeys(("backoffdelay", "backofffactor", "backofflimit"), (BACK_OFF, "pebble")),
    **dict.fromkeys(("backoffseconds", "restartdelay"), (BACK_OFF, "")),
    "startretries": (MOST_RESTARTS, "supervisord"),
    "startlimitburst": (MOST_RESTARTS, "systemd"),
    "maxretry": (MOST_RESTARTS, "circus"),
    **dict.fromkeys(
        ("maxretries", "retries", "restarts", "maximumretrycount"), (MOST_RESTARTS, "")
    ),
    "onsuccess": ("on_exit", "pebble"),
    **dict.fromkeys(
        ("requires", "wants", "bindsto", "requisite", "after"), (DEPENDS_ON, "systemd and pebble")
    ),
    "startafter": (DEPENDS_ON, "Horust"),
    **dict.fromkeys(("dependencies", "dependency", "needs", "links", "waitfor"), (DEPENDS_ON, "")),
    **dict.fromkeys(("isoneshot", "initcontainer", "runonce"), ("oneshot", "")),
    "loglevel": (LEVEL, ""),
    "command": (COMMAND, ""),
    "cmd": (COMMAND, ""),
    "entrypoint": (COMMAND, "Docker"),
    "exec": (COMMAND, ""),
    "execstart": (COMMAND, "systemd"),
    **dict.fromkeys(("args", "argv", "script"), (COMMAND, "")),
}


# Words that may be written in a table for what it calls otherwise; as above without case, dashes
# and underscores.
IN_TABLE = {
    "drain": {
        **dict.fromkeys(("url", "uri", "endpoint", "path", "socket", "httpget", "request"), "http"),
        **dict.fromkeys(("command", "cmd", "script"), "exec"),
        **dict.fromkeys(("port", "ports", "connections", "listen"), "tcp"),
        **dict.fromkeys(("period", "periodseconds", "every"), "interval"),
        **dict.fromkeys(
            ("delay", "initialdelay", "initialdelayseconds", "startperiod"), "min_drain"
        ),
        **dict.fromkeys(("successthreshold", "consecutive", "threshold", "times"), "confirm"),
        **dict.fromkeys(("timeoutseconds", "requesttimeout"), "probe_timeout"),
        **dict.fromkeys(("grace", "killafter"), "linger"),
        **dict.fromkeys(("pointer", "jsonpath", "jsonpointer", "key"), "json"),
        **dict.fromkeys(("prometheus", "gauge"), "metric"),
        **dict.fromkeys(("regex", "regexp", "pattern", "match"), "text"),
        **dict.fromkeys(("expect", "value", "equal", "is"), "equals"),
        **dict.fromkeys(("max", "atmost", "lessthan", "below"), "at_most"),
        **dict.fromkeys(("header",), "headers"),
        **dict.fromkeys(("code", "statuscode"), "status"),
        **dict.fromkeys(("cacert", "cafile", "cabundle"), "ca"),
        **dict.fromkeys(
            ("skipverify", "tlsskipverify", "insecureskipverify", "verify"), "insecure"
        ),
        **dict.fromkeys(("action", "begin"), "start"),
        **dict.fromkeys(("order", "phase", "before", "after"), "when"),
        **dict.fromkeys(("probes", "checks"), "all"),
    },
    "health": dict.fromkeys(("port", "address", "addr", "bind", "host", "socket"), "listen"),
    "control": dict.fromkeys(("path", "listen", "file"), "socket"),
}

MEANT = {"signal": SIGNAL}  # close to several of ours, and this is the one

GROUP = {
    "stopasgroup",
    "killasgroup",
    "stopchildren",
}  # of supervisord and circus: yes or no, and here a mode


# What others have a word for, and gracewrap does in another way, or not at all.
_ORDER = 'the order is not made of numbers; write depends_on = ["db"] in [programs.NAME]'
_EACH = "each program is one process; write a [programs.NAME] for each"

_RUNS_FIRST = (
    "write it as a program of its own, with oneshot = true, and depends_on = [its name] in this one"
)

OUTPUT = (
    "what it writes goes where gracewrap's own output goes; remove it, or write output = "
    '"prefix" to see whose line it is'
)

_OF_CONTAINER = (
    "it is about the container, and stays where that is described (compose.yaml, the "
    "Dockerfile); remove it"
)

_RELOAD = (
    'SIGHUP and the like are forwarded to the command; signal_map = {HUP = "restart"} '
    "restarts it on one"
)

NO_GROUPS = (
    "there are no groups of programs; write [programs.NAME] for each, and name them one "
    "by one: gracewrap restart a b"
)

LIVENESS = (
    'gracewrap calls this live; write live = "http://127.0.0.1:3000/live", or watchdog = "30s" if '
    "it sends WATCHDOG=1"
)

ELSEWHERE = {
    **dict.fromkeys(
        ("autostart", "startup", "enabled", "disabled"),
        "every program in the file is started; remove it (gracewrap stop NAME stops one)",
    ),
    **dict.fromkeys(
        ("exitcodes", "stopexitcodes", "successfulexitcode"),
        "0 is a success and all else a failure, but for success_exit_codes after a stop "
        "request; remove it",
    ),
    **dict.fromkeys(
        ("startsecs", "minuptime"),
        'write backoff = {stable = "10s"}: so long it must run to count as started',
    ),
    "startlimitintervalsec": 'write backoff = {stable = "10s"}: when it has run for so long, '
    "max_restarts counts anew",
    **dict.fromkeys(("priority", "startorder", "stoporder", "order", "weight"), _ORDER),
    "before": "the other program says it: depends_on, or stop_after, in its own [programs.NAME]",
    **dict.fromkeys(("numprocs", "numprocesses", "replicas", "scale", "instances"), _EACH),
    "availability": 'write restart = "on-failure", and below it backoff and max_restarts (it is a '
    "word of process-compose)",
    "shutdown": "write stop_signal, stop_timeout and pre_stop (that is process-compose's name "
    "for it)",
    **dict.fromkeys(
        ("exitonend", "exitonfailure"),
        "when it ends, all are stopped (on_exit, on_failure); remove it",
    ),
    "termination": "write stop_signal and stop_timeout (that is Horust's name for it)",
    "failure": "write on_failure (that is Horust's name for it)",
    "healthiness": "write ready and live (that is Horust's name for it)",
    "dieiffailed": 'a program that fails stops all, with on_failure = "shutdown", the default; '
    "remove it",
    **dict.fromkeys(
        ("startdelay", "warmupdelay"),
        "a start waits for what it needs, not for a time; write depends_on here, and ready there",
    ),
    **dict.fromkeys(
        ("keepenv", "reexport", "copyenv"),
        "all variables are inherited; with clear_env = true none, but those in env",
    ),
    **dict.fromkeys(
        ("waitready", "notificationfd"),
        'write ready: "tcp", a URL, {log_line = "listening on"}, or "notify" if it says READY=1 to '
        "NOTIFY_SOCKET",
    ),
    **dict.fromkeys(
        ("maxmemoryrestart", "maxmemory", "maxrss"),
        "its memory is limited where the container is described; killed for it, it has failed "
        '(restart = "on-failure")',
    ),
    **dict.fromkeys(
        ("cronrestart", "schedule", "maxage"),
        "nothing is restarted by the clock; have cron run gracewrap restart NAME",
    ),
    "watch": "no file is watched; gracewrap restart NAME restarts a program",
    "oncheckfailure": "write live and on_unhealthy",
    "type": 'write oneshot = true in [programs.NAME] if it is to run once, ready = "notify" if it '
    "says READY=1 "
    "(the word comes from systemd)",
    **dict.fromkeys(("execstartpre", "prestart"), _RUNS_FIRST),
    **dict.fromkeys(
        ("execstartpost", "poststart"),
        "write it as a program with oneshot = true and depends_on = [this one]",
    ),
    **dict.fromkeys(("execreload", "reloadsignal", "reloadcommand"), _RELOAD),
    **dict.fromkeys(
        (
            *("timeoutstartsec", "starttimeout", "readytimeout", "timeoutstart"),
            *("launchtimeoutseconds", "listentimeout"),
        ),
        'write ready_timeout = "60s": it must be ready by then, or has failed',
    ),
    **dict.fromkeys(
        ("isdaemon", "daemon"),
        "a program stays in the foreground; write the option that keeps it there",
    ),
    **dict.fromkeys(
        (
            *(
                "stdoutlogfile",
                "stderrlogfile",
                "redirectstderr",
                "standardoutput",
                "standarderror",
                "stdout",
                "stderr",
            ),
            *(
                "stdoutlogfilemaxbytes",
                "stderrlogfilemaxbytes",
                "stdoutlogfilebackups",
                "stderrlogfilebackups",
            ),
            *("logfile", "loglocation", "logging", "stdoutpath", "stderrpath"),
            *("outfile", "errorfile", "stdoutrotatesize"),
        ),
        OUTPUT,
    ),
    **dict.fromkeys(
        ("image", "ports", "expose", "volumes", "networks", "build", "containername", "deploy"),
        _OF_CONTAINER,
    ),
    "shell": 'write command = ["sh", "-c", "exec ..."]',
    "groups": NO_GROUPS,
    "nodaemon": "gracewrap stays in the foreground; remove it",
}


# Tables that others put their programs in.
OF_PROGRAMS = {
    "program",
    "service",
    "services",
    "process",
    "processes",
    "proc",
    "app",
    "apps",
    "watcher",
    "task",
    "tasks",
}

NO_OPTION = "no such option; gracewrap help all lists them"


# Options of tini, dumb-init and catatonit, which people leave in an ENTRYPOINT when they change
# inits.
SHORT = {
    "-g": "tini's -g is --kill-mode group",
    "-s": "gracewrap is a subreaper whenever it is not PID 1; leave -s out",
    "-p": "tini's -p SIGNAL is --parent-death-signal SIGNAL",
    "-e": "tini's -e CODE is --success-exit-codes CODE",
    "-v": "write --log-level debug",
    "-q": "write --log-level warning",
    "-w": "gracewrap counts the orphans it reaps; leave -w out",
    "--single-child": "dumb-init's --single-child is what gracewrap does (kill_mode = mixed); "
    "remove it",
    "--rewrite": "dumb-init's --rewrite HUP:QUIT is --signal-map HUP=QUIT",
    "--verbose": "write --log-level debug",
    # Nobody's, but what one may try first.
    "--strict": "it is for check; use gracewrap check --strict",
    "--against": "it is for check; use gracewrap check --against FILE",
    "--fix": "it is for check; use gracewrap check --against FILE --fix",
    "--grace": "it is for plan; use gracewrap plan --grace 30s",
    "--url": "it is for drill; use gracewrap drill --url URL",
    "--compare": "it is for drill; use gracewrap drill --compare bare",
    "--repeat": "it is for drill; use gracewrap drill --repeat 20",
    "--drain": "write what tells that it is drained, --drain-tcp auto or --drain-http URL",
    "--health": "write where it is to answer, --health-listen :9000",
}
