"""What hooks find in their environment."""

from __future__ import annotations

from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from gracewrap.report.recorder import Recorder


def hook_variables(recorder: Recorder, program: int, at: float) -> dict[str, str]:
    """Return what a program's hooks find in their environment, by the names after GRACEWRAP_."""
    history, run = recorder.histories[program], recorder.run
    elapsed = run.used(at)
    found = {
        "COMMAND_PID": str(history.pid),
        "REASON": run.requested_by(),
        "ELAPSED": f"{elapsed:.3f}",
        "LEFT": f"{max(0.0, run.budget - elapsed):.3f}",
    }
    found |= {"PROGRAM": history.name} if run.several else {}
    ended = history.facts()
    return found | ({"OUTCOME": history.outcome(), **ended} if ended else {})
