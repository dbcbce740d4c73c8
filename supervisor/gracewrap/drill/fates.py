"""What becomes of each request and job of a drill, and which of that is lost."""

from __future__ import annotations

from gracewrap.record import Record

# What becomes of a request that was scheduled.
OK, REFUSED, RESET, CUT, FAILED, TIMED_OUT = "ok", "refused", "reset", "cut", "5xx", "timed out"
ELSEWHERE = "elsewhere"  # the balancer had sent it to another instance, or there was none any more
NOT_DONE, TWICE = "not done", "twice"  # of jobs
LOST = (REFUSED, RESET, CUT, FAILED, TIMED_OUT, NOT_DONE)
FATES = (OK, *LOST, TWICE, ELSEWHERE)


def of_status(status: int) -> str:
    """Return the fate of a request by the status of its whole answer."""
    return FAILED if status >= 500 else OK


class Request(Record):
    """A request or a job that was scheduled, and its fate."""

    url: str  # "job ID" for a job
    at: float  # when it was scheduled
    ended: float
    fate: str
    kept: bool | None  # on a connection that had been kept alive; None: it is not known
    why: str = ""

    @property
    def lost(self) -> bool:
        """Whether its client got no usable answer."""
        return self.fate in LOST
