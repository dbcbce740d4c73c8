"""The options that a setting requires: without them it has no effect, and is refused."""

from __future__ import annotations

HTTP = ("--drain-http", "https://127.0.0.1:3000/drain")
_DRAIN = {
    **dict.fromkeys(
        ("method", "headers", "ca", "insecure", "status", "json", "metric", "text", "on_refused"),
        HTTP,
    ),
    **dict.fromkeys(("equals", "at_most"), (*HTTP, "--drain-json", "/jobs")),
    "absent": (*HTTP, "--drain-metric", "jobs"),
    **dict.fromkeys(("file_is", "contains"), ("--drain-file", "/run/drained")),
    **dict.fromkeys(
        ("mode", "quiet", "outgoing", "streams", "unit", "when", "interval", "probe_timeout"),
        ("--drain-tcp", "auto"),
    ),
    **dict.fromkeys(("timeout", "min_drain", "confirm", "linger"), ("--drain-tcp", "auto")),
}
# Setting -> words for the command line.
REQUIRED_OPTIONS: dict[str, tuple[str, ...]] = {
    f"drain.{key}": words for key, words in _DRAIN.items()
} | {
    "drain.agent": ("--agent", "node"),
    "on_watchdog": ("--watchdog", "30s"),
    "ready_timeout": ("--ready", "tcp"),
    "on_unhealthy": ("--live", "tcp"),
    **dict.fromkeys(("backoff", "max_restarts"), ("--restart", "on-failure")),
    "health.on_stop": ("--health-listen", ":9000"),
    "report.pushgateway_job": ("--report-pushgateway", "http://pushgateway:9091"),
}
