"""The end of a run: what is still written, answered and removed when nothing is left to look
after."""

from __future__ import annotations

import time

from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from gracewrap.config.settings import Settings
    from gracewrap.report.recorder import Recorder
    from gracewrap.runtime.handover import Handover
    from gracewrap.runtime.programs import Programs
    from gracewrap.runtime.side_tasks import SideTasks


AT_LEAST = 1.0  # seconds for the reports, also where the budget is used up; for lines, at most
SOON = 0.1  # seconds for the last lines of the log, likewise


class Ending:
    """What the loop does last."""

    def __init__(
        self,
        handover: Handover,
        settings: Settings,
        recorder: Recorder,
        programs: Programs,
        side: SideTasks,
    ) -> None:
        self.handover, self.settings = handover, settings
        self.recorder, self.programs, self.side = recorder, programs, side
        self.over_at = handover.at  # when nothing was left to do but to say how it went

    def leave(self, status: int) -> int:
        """Log and write what is to be said at the end; return *status*, which nothing that fails
        here changes."""
        for act in (
            *(self.last_output, self.last_word, self.tell_end, self.close, self.last_lines),
            self.see_off,
        ):
            try:
                act(status)
            except Exception as error:
                text = f"internal error: {type(error).__name__}: {error}"
                self.recorder.log.say("error", "bug", text, {})
        return status

    def last_output(self, _: int) -> None:
        """Write what the programs have written last."""
        self.programs.last_output(self._kill_at())

    def last_word(self, status: int) -> None:
        """Log the summary, write the reports."""
        self.over_at = time.monotonic()
        if self.settings.writes_reports or self.recorder.run.is_worth_a_summary():
            from gracewrap.runtime import final_reports

            metrics = self.side.last_metrics
            until = max(self._kill_at(), self.over_at + AT_LEAST)
            final_reports.say(self.recorder, self.settings, status, self.over_at, metrics, until)

    def tell_end(self, status: int) -> None:
        """Answer those who wait on the control socket for the end of the run."""
        if self.side.control is not None:
            self.side.control.tell_end(status, self.over_at)

    def close(self, _: int) -> None:
        """Remove what others could find of us: helpers, and sockets in the file system."""
        self.programs.kill_helpers()
        if self.side.control is not None:
            self.side.control.close()
        equipment = self.handover.equipment
        has_sockets = any(one.notify is not None or one.agent is not None for one in equipment)
        if self.handover.listening or has_sockets:
            from gracewrap.runtime import prepare

            prepare.clean(self.handover, self.settings)

    def last_lines(self, _: int) -> None:
        """Write the last lines of the log, if who reads it is slow: nobody can say later that they
        are lost."""
        at = time.monotonic()
        self.recorder.log.finish(min(max(self._kill_at(), at + SOON), at + AT_LEAST))

    def _kill_at(self) -> float:
        """Return when the budget is used up; one that nothing has asked of yet begins now."""
        since = self.recorder.run.since
        return (time.monotonic() if since is None else since) + self.settings.shutdown_timeout

    def see_off(self, _: int) -> None:
        """Let them say it before they are killed with PID 1."""
        if self.side.control is not None:
            self.side.control.see_off()
