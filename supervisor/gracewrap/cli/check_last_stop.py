"""What `gracewrap check` says of the last stop, if there is a report of it here."""

from __future__ import annotations

import os

from gracewrap.cli import report_file
from gracewrap.cli.control_client import Unusable
from gracewrap.config.values import show_duration
from gracewrap.learn.suggested_settings import TIGHT
from gracewrap.picture import past_stop
from gracewrap.picture.chart import shown
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gracewrap.config.settings import Settings


def doubts(settings: Settings) -> Iterator[str]:
    """Yield a warning if the last stop used most of the time that there is now."""
    file, budget = settings.report_file, settings.shutdown_timeout
    if file is None or not budget or not os.path.isfile(file):
        return
    try:
        report = report_file.document(file, "read")
        past_stop.chart(report)
    except (Unusable, past_stop.NoReport):
        return  # not of a stop, or not ours: `gracewrap report` says which
    used = past_stop.number(report, "used_seconds")
    if used <= TIGHT * budget:
        return
    killed = report.get("killed")
    names = ", ".join(map(str, killed)) if isinstance(killed, list) else ""
    lost = f", and SIGKILL ended {names}" if names.isprintable() and names else ""
    yield (
        f"the last stop ({file}) used {shown(used)}, {used / budget:.0%} of shutdown_timeout = "
        f'"{show_duration(budget)}"{lost}: a stop that takes longer is cut off; gracewrap report '
        f"{file} shows where the time went, gracewrap learn {file} what it needs"
    )
