"""The words that stand behind `gracewrap` and are no command to run."""

from __future__ import annotations

SUBCOMMANDS = (
    *("check", "plan", "drill", "init", "presets", "status", "drain", "undrain", "stop"),
    *(
        "restart",
        "signal",
        "health",
        "reopen",
        "report",
        "learn",
        "run",
        "schema",
        "completion",
        "man",
    ),
)
# Subcommands of other supervisors (config.suggestions says what is done here instead): alone, such
# a word is not run as a command.
OF_OTHERS = frozenset(
    (
        *("up", "serve", "supervise", "daemon", "launch", "begin", "start", "log", "logs", "tail"),
        *("version", "ps", "ls", "list", "top", "info", "show", "jobs", "down", "shutdown"),
        *("kill", "quit", "exit", "halt", "terminate", "reload", "reread", "update", "hup"),
        *("validate", "verify", "lint", "config", "configtest", "doctor", "new", "create"),
        *("generate", "healthz", "healthcheck", "ready", "ping", "usage", "commands"),
        *("reboot", "poweroff", "exec", "wrap"),
    )
)
# As root these stop the machine, also with words behind them.
OF_THE_MACHINE = frozenset(("shutdown", "halt", "reboot", "poweroff"))
