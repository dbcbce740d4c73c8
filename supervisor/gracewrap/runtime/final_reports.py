"""The end of a run: the summary in the log, and the reports that the settings ask for."""

from __future__ import annotations

from gracewrap import __version__
from gracewrap.record import TYPE_CHECKING
from gracewrap.report import report_document, report_files, summary

if TYPE_CHECKING:
    from collections.abc import Callable

    from gracewrap.config.settings import Settings
    from gracewrap.report.recorder import Recorder


def say(
    recorder: Recorder,
    settings: Settings,
    status: int,
    at: float,
    last_metrics: Callable[[], str],
    until: float,
) -> None:
    """Log the summary and write the reports of a run that is over.

    Args:
        recorder: What has happened.
        settings: What is to be written, and where.
        status: The exit status.
        at: When it was over.
        last_metrics: Returns the metrics.
        until: When to give up on a disk that does not answer (monotonic).
    """
    log = recorder.log
    if recorder.run.is_worth_a_summary():
        level, text = summary.summary_line(recorder, status, at)
        log.say(level, "summary", text, report_document.summary_fields(recorder.run, status, at))
    report = report_document.report(recorder, status, at, __version__)
    metrics = None if settings.report_prometheus_textfile is None else last_metrics
    for fault in report_files.write_all_until(until, settings, report, metrics):
        log.say("error", "report_failed", fault, {})
