"""Runs the hooks of one program, and the push of metrics.  Never waits; the end of one is an
event."""

from __future__ import annotations

import posix
import time

from gracewrap.config import probe_specs
from gracewrap.policy.model import Event, HelperEnded, RunHelper, StopHelper
from gracewrap.policy.program_phases import FOREVER
from gracewrap.record import TYPE_CHECKING, assert_never, replace
from gracewrap.report.hook_variables import hook_variables
from gracewrap.report.probe_events import HookStarted
from gracewrap.report.wording import seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from gracewrap.linux.hook_and_probe_process_groups import Helper, Helpers
    from gracewrap.linux.reactor import Reactor, Timer
    from gracewrap.report.recorder import Recorder
    from gracewrap.runtime.program_processes import Child


class HookRunner:
    """The hooks of one program: "pre_stop", "start" (of the drain), "post_stop" and "push".

    Args:
        reactor: For descriptors and timers.
        child: The program.
        helpers: Runs those that are commands.
        post: Takes an event for the policy.
        recorder: Takes what is to be logged; knows what hooks find in their environment.
        metrics: Returns the metrics that are pushed.
    """

    def __init__(
        self,
        reactor: Reactor,
        child: Child,
        helpers: Helpers,
        post: Callable[[Event], None],
        recorder: Recorder,
        metrics: Callable[[], str],
    ) -> None:
        self._reactor, self._child, self._helpers = reactor, child, helpers
        self._settings, self._post, self._recorder = child.settings, post, recorder
        self._metrics = metrics
        # By its name: what gives up a hook that runs, and the timer of its limit.
        self._running: dict[str, tuple[Callable[[], None], Timer | None]] = {}

    def run(self, command: RunHelper, at: float) -> None:
        """Run a hook; HelperEnded answers."""
        hook, action = command.what, self._action(command.what)
        self._recorder.record(HookStarted(command.program, hook, _shown(action)), at)
        limit = command.until if action.timeout is None else min(command.until, at + action.timeout)

        def ended(ok: bool, why: str) -> None:
            if hook in self._running:
                self._reactor.cancel(self._running.pop(hook)[1])
                self._post(HelperEnded(command.program, hook, ok, why, time.monotonic()))

        def too_late() -> None:
            give_up, _ = self._running[hook]
            give_up()
            ended(False, f"not done after {seconds(limit - at)}, and given up")

        # A drain that was requested without a stop has no limit of its own.
        timer = self._reactor.call_at(limit, too_late) if limit < FOREVER else None
        self._running[hook] = (_nothing, timer)
        try:
            give_up = self._begin(action, ended)
        except Exception as error:
            ended(False, getattr(error, "strerror", None) or f"{type(error).__name__}: {error}")
            return
        if hook in self._running:  # it may be over already
            self._running[hook] = (give_up, timer)

    def stop(self, command: StopHelper) -> None:
        """Kill a hook that is still running; there is no answer."""
        give_up, timer = self._running.pop(command.what, (_nothing, None))
        self._reactor.cancel(timer)
        give_up()

    def _action(self, hook: str) -> probe_specs.Action:
        if hook == "push":
            return self._push()
        action = {
            "pre_stop": self._settings.pre_stop,
            "start": self._settings.drain_start,
            "post_stop": self._settings.post_stop,
        }[hook]
        assert action is not None, hook
        return action

    def _push(self) -> probe_specs.HttpAction:
        """Return the request that leaves our metrics with a Pushgateway, which keeps them when we
        are gone."""
        from gracewrap.report.metrics import push_path

        url = self._settings.report_pushgateway
        assert url is not None
        job = self._settings.report_pushgateway_job or self._settings.command[0].rpartition("/")[2]
        target = url.target.rstrip("/") + push_path(job, posix.uname().nodename)
        headers = (probe_specs.Header("Content-Type", "text/plain; version=0.0.4; charset=utf-8"),)
        body = self._metrics().encode()
        return probe_specs.HttpAction(
            probe_specs.Request(replace(url, target=target), "PUT", headers, body)
        )

    def _begin(
        self, action: probe_specs.Action, ended: Callable[[bool, str], None]
    ) -> Callable[[], None]:
        """Start an action and return what gives it up."""
        match action:
            case probe_specs.CommandAction(command):
                at = time.monotonic()
                found = hook_variables(self._recorder, self._child.index, at)
                more = {
                    f"GRACEWRAP_{name}".encode(): value.encode(errors="replace")
                    for name, value in found.items()
                }

                def over(status: int, _: bytes) -> None:
                    ended(status == 0, "" if status == 0 else f"{command[0]}: exit status {status}")

                helper: Helper = self._helpers.run(command, over, more=more)
                return lambda: self._helpers.kill(helper)
            case probe_specs.HttpAction(request):
                from gracewrap.http_client.http_hook import HttpHook

                hook = HttpHook(request, self._reactor, self._helpers, ended)
                return hook.cancel
            case _:
                assert_never(action)


def _nothing() -> None:
    """Give up an action that is not under way."""


def _shown(action: probe_specs.Action) -> str:
    return (
        " ".join(action.command)
        if isinstance(action, probe_specs.CommandAction)
        else action.request.url.shown
    )
