"""The http probe: sends a request; http_answer.py interprets the response."""

from __future__ import annotations

from gracewrap.http_client.exchange import Exchange
from gracewrap.http_client.response import REFUSED, Failure, Response
from gracewrap.http_client.safe_text import printable
from gracewrap.policy.model import DRAINED, FAILED, INVALID, UNREACHABLE, Reading
from gracewrap.probes.base import Probe
from gracewrap.probes.http_answer import interpret
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from gracewrap.config.probe_specs import HttpProbeSpec
    from gracewrap.linux.hook_and_probe_process_groups import Helpers
    from gracewrap.linux.reactor import Reactor
    from gracewrap.probes.base import OnReading


class HttpProbe(Probe):
    """Sends one request per sample."""

    def __init__(
        self, spec: HttpProbeSpec, reactor: Reactor, helpers: Helpers | None = None
    ) -> None:
        """*helpers* look up host names; see Exchange."""
        self._spec, self._reactor, self._helpers = spec, reactor, helpers
        self._exchange: Exchange | None = None

    def sample(self, on_reading: OnReading) -> None:
        """Take one sample."""
        self.cancel()
        self._exchange = Exchange(
            self._reactor,
            self._spec.request,
            lambda outcome: on_reading(reading(self._spec, outcome)),
            self._helpers,
        )

    def cancel(self) -> None:
        """Abort the sample in progress, if any."""
        if self._exchange is not None:
            self._exchange.cancel()
            self._exchange = None


def reading(spec: HttpProbeSpec, outcome: Response | Failure) -> Reading:
    """Return the reading for a response, or for the failure to get one."""
    if isinstance(outcome, Response):
        try:
            return interpret(spec.expect, outcome)
        except Exception as error:  # a bug, or no memory
            return Reading(INVALID, None, f"{type(error).__name__}: {printable(str(error))}")
    if outcome.kind == REFUSED:
        kind = {"drained": DRAINED, "fail": FAILED}.get(spec.on_refused, UNREACHABLE)
        return Reading(kind, None, outcome.why, refused=kind == UNREACHABLE)
    kind = INVALID if outcome.kind == INVALID else UNREACHABLE
    return Reading(kind, None, outcome.why, asked=outcome.asked)
