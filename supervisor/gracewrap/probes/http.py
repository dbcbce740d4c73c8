"""Ask an HTTP endpoint whether the work is done, and make the requests of hooks."""

from __future__ import annotations

from gracewrap.http_client.exchange import Exchange
from gracewrap.http_client.response import REFUSED, Failure, Response
from gracewrap.http_client.safe_text import printable
from gracewrap.policy.model import DRAINED, FAILED, INVALID, UNREACHABLE, Reading
from gracewrap.probes.base import Probe
from gracewrap.probes.http_expect import judge
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from gracewrap.config.probe_specs import HttpProbeSpec
    from gracewrap.linux.helper_processes import Helpers
    from gracewrap.linux.reactor import Reactor
    from gracewrap.probes.base import OnReading


class HttpProbe(Probe):
    """An http probe."""

    def __init__(
        self, probe: HttpProbeSpec, reactor: Reactor, helpers: Helpers | None = None
    ) -> None:
        """Args: what to ask; where it waits; who looks up host names (None: nobody)."""
        self.probe, self._reactor, self._helpers = probe, reactor, helpers
        self._exchange: Exchange | None = None

    def sample(self, on_reading: OnReading) -> None:
        """Take one sample."""
        self.cancel()
        self._exchange = Exchange(
            self._reactor,
            self.probe.request,
            lambda outcome: on_reading(reading(self.probe, outcome)),
            self._helpers,
        )

    def cancel(self) -> None:
        """Give up on the sample that is under way, if any."""
        if self._exchange is not None:
            self._exchange.cancel()
            self._exchange = None


def reading(probe: HttpProbeSpec, outcome: Response | Failure) -> Reading:
    """Return what an answer, or that there is none, says about the drain."""
    if isinstance(outcome, Response):
        try:
            return judge(probe.expect, outcome)
        except Exception as error:  # a bug, or no memory
            return Reading(INVALID, None, f"{type(error).__name__}: {printable(str(error))}")
    if outcome.kind == REFUSED:
        kind = {"drained": DRAINED, "fail": FAILED}.get(probe.on_refused, UNREACHABLE)
        return Reading(kind, None, outcome.why)
    return Reading(INVALID if outcome.kind == INVALID else UNREACHABLE, None, outcome.why)
