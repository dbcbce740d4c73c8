"""What a run may need at any time from its start to its end.

It is loaded when the command has been started and nothing else is to be done: a stop, a restart or
a hook finds it even if the package has been replaced meanwhile.
"""

from __future__ import annotations

from gracewrap.record import TYPE_CHECKING
from gracewrap.runtime import lazy_imports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gracewrap.config.settings import Settings

AT_REST = (
    *lazy_imports.STOP,
    "gracewrap.policy.kill_reason",
    "gracewrap.policy.time_gap",
    "gracewrap.policy.successor",
    "gracewrap.report.held_up",
    "gracewrap.runtime.phase_in_words",
    "gracewrap.runtime.progress",
    "gracewrap.config.recognise_command",
    "gracewrap.report.summary",
    "gracewrap.report.report_document",
    "gracewrap.report.report_files",
    "gracewrap.runtime.final_reports",
)
# What else may be decided about programs that are started again, or one by one.
OF_PROGRAMS = (
    "gracewrap.policy.restart",
    "gracewrap.policy.stop_order",
    "gracewrap.policy.rolling",
    "gracewrap.policy.partial_stop",
    "gracewrap.runtime.partial_restart",
)
# What a check that fails leads to, and what a start of something needs.
OF_ERRANDS = (
    "gracewrap.policy.failed_health_check",
    "gracewrap.policy.watchdog_missed",
    "gracewrap.linux.standard_streams",
    "gracewrap.linux.fork",
    "gracewrap.linux.between_fork_and_exec",
)
OF_METRICS = (
    "gracewrap.runtime.readyz_and_livez",
    "gracewrap.runtime.status_document",
    "gracewrap.report.metrics",
)


def modules(settings: Settings) -> Iterator[str]:
    """Return what a run with these settings may still need, in an order in which no module takes
    long."""
    yield from AT_REST
    if settings.is_managed:
        yield from OF_PROGRAMS
    if settings.is_managed or any(one.needs_errands for one in settings.each):
        yield from OF_ERRANDS
    if settings.tells_metrics:
        yield from OF_METRICS
    if any(one.dump_signal for one in settings.each):  # else only a sentence would be missing
        yield from ("gracewrap.runtime.held_up_recorder", *lazy_imports.EXAMINE)
    schemes = settings.hook_schemes.union(*(one.hook_schemes for one in settings.each))
    if schemes:
        yield from (*lazy_imports.H11, "gracewrap.http_client.http_hook")
    if "https" in schemes:
        yield from ("ssl", "gracewrap.http_client.tls")
