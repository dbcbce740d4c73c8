"""Runs a hook that is an HTTP request: a 2xx response is success."""

from __future__ import annotations

from gracewrap.http_client.exchange import Exchange
from gracewrap.http_client.response import Failure, Response
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gracewrap.config.probe_specs import Request
    from gracewrap.linux.hook_and_probe_process_groups import Helpers
    from gracewrap.linux.reactor import Reactor


class HttpHook:
    """One request in progress.  It has no time limit: the caller sets one, and calls cancel()."""

    def __init__(
        self,
        request: Request,
        reactor: Reactor,
        helpers: Helpers | None,
        done: Callable[[bool, str], None],
    ) -> None:
        """Send the request.

        Args:
            request: What to send.
            reactor: Runs the exchange.
            helpers: Look up host names; see Exchange.
            done: Called once, later, with whether the status was 2xx, and with the status line or
                the reason of the failure.
        """

        def finish(outcome: Response | Failure) -> None:
            if isinstance(outcome, Response):
                done(200 <= outcome.status < 300, outcome.status_line)
            else:
                done(False, outcome.why)

        self._exchange = Exchange(reactor, request, finish, helpers)

    def cancel(self) -> None:
        """Abort the request: done() is not called any more."""
        self._exchange.cancel()
