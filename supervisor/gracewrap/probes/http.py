"""Ask an HTTP endpoint whether the work is done, and make the requests of hooks."""

from __future__ import annotations

from gracewrap.http_client.exchange import Exchange
from gracewrap.http_client.response import REFUSED, Answer, Failure, printable
from gracewrap.policy.model import DRAINED, FAILED, INVALID, UNREACHABLE, Reading
from gracewrap.probes.http_expect import judge
from gracewrap.probes.sampler import Probe
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gracewrap.config.probe_specs import HttpProbeSpec, Request
    from gracewrap.linux.helper_processes import Helpers
    from gracewrap.linux.reactor import Reactor


class HttpProbe(Probe):
    """An http probe."""

    def __init__(
        self, probe: HttpProbeSpec, reactor: Reactor, helpers: Helpers | None = None
    ) -> None:
        """Args: what to ask; where it waits; who looks up host names (None: nobody)."""
        self.probe, self._reactor, self._helpers = probe, reactor, helpers
        self._exchange: Exchange | None = None

    def ask(self, answer: Callable[[Reading], None]) -> None:
        """Take one sample."""
        self.cancel()
        self._exchange = Exchange(
            self._reactor,
            self.probe.request,
            lambda outcome: answer(reading(self.probe, outcome)),
            self._helpers,
        )

    def cancel(self) -> None:
        """Give up on the sample that is under way, if any."""
        if self._exchange is not None:
            self._exchange.cancel()
            self._exchange = None


def reading(probe: HttpProbeSpec, outcome: Answer | Failure) -> Reading:
    """Return what an answer, or that there is none, says about the drain."""
    if isinstance(outcome, Answer):
        try:
            return judge(probe.expect, outcome)
        except Exception as error:  # a bug, or no memory
            return Reading(INVALID, None, f"{type(error).__name__}: {printable(str(error))}")
    if outcome.kind == REFUSED:
        kind = {"drained": DRAINED, "fail": FAILED}.get(probe.on_refused, UNREACHABLE)
        return Reading(kind, None, outcome.why)
    return Reading(INVALID if outcome.kind == INVALID else UNREACHABLE, None, outcome.why)


class HttpDoer:
    """A hook, or the start of a drain, that is an HTTP request."""

    def __init__(
        self,
        request: Request,
        reactor: Reactor,
        helpers: Helpers | None,
        done: Callable[[bool, str], None],
    ) -> None:
        """Make the request; *done* is called once, later, with whether a 2xx was answered, and with
        what was answered.

        How long it may take is for the caller to say, by cancel().
        """

        def answered(outcome: Answer | Failure) -> None:
            if isinstance(outcome, Answer):
                done(200 <= outcome.status < 300, outcome.line)
            else:
                done(False, outcome.why)

        self._exchange = Exchange(reactor, request, answered, helpers)

    def cancel(self) -> None:
        """Give up on the request; *done* is not called any more."""
        self._exchange.cancel()
