"""What the policy is told, from the settings."""

from __future__ import annotations

from gracewrap.config.settings import DRAINED
from gracewrap.linux.signals import SIGHUP
from gracewrap.policy import model as m
from gracewrap.record import TYPE_CHECKING, replace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gracewrap.config.settings import Settings


def policy_of(settings: Settings, seed: int = 0) -> m.Policy:
    """Return what the policy needs to know of the settings.

    Args:
        settings: Of one command, or of several programs.
        seed: Of the jitter between restarts.
    """
    names = {one.name: index for index, one in enumerate(settings.each)}
    reloads = any(one.reload_signal is not None for one in settings.each)
    return m.Policy(
        programs=tuple(
            replace(_program(one, names), signal_map=_signal_map(one, settings, reloads))
            for one in settings.each
        ),
        shutdown_timeout=settings.shutdown_timeout,
        stop_on=settings.stop_requests,
        signal_map={
            signum: max(0, sent) for signum, sent in settings.signal_map.items()
        },  # for a rolling restart there is an event of its own
        on_repeat=settings.on_repeat,
        flush_timeout=settings.flush_timeout,
        success_exit_codes=settings.success_exit_codes,
        drained_is_success=DRAINED in settings.success_exit_codes,
        push=settings.report_pushgateway is not None,
        exit_code_from=None
        if settings.exit_code_from is None
        else names.get(settings.exit_code_from),
        seed=seed,
        managed=settings.is_managed,
    )


def _signal_map(one: Settings, overall: Settings, reloads: bool) -> Mapping[int, int]:
    """Return what a program is sent for which signal, where that is another than for all.

    SIGHUP is for the programs that are to reload by it, if there are such: it ends most others.
    """
    own = {signum: max(0, sent) for signum, sent in one.signal_map.items()}
    if one is overall or one.signal_map == overall.signal_map:
        own = {}
    if one.reload_signal is not None:
        own[SIGHUP] = one.reload_signal
    elif reloads:
        own.setdefault(SIGHUP, 0)
    return own


def _program(settings: Settings, names: Mapping[str, int]) -> m.ProgramPolicy:
    return m.ProgramPolicy(
        stop_signal=settings.stop_signal,
        stop_timeout=settings.stop_timeout,
        escalation=tuple(m.Rung(after, signum) for after, signum in settings.escalation),
        kill_mode=settings.kill_mode,
        propagation_delay=settings.propagation_delay,
        pre_stop=settings.pre_stop is not None,
        post_stop=settings.post_stop is not None,
        drain=_drain(settings),
        name=settings.name,
        depends_on=tuple(
            (names[needed], condition) for needed, condition in settings.depends_on.items()
        ),
        stop_after=tuple(names[first] for first in settings.stop_after),
        until=settings.until,
        reserve=settings.reserve,
        ready=settings.ready is not None,
        oneshot=settings.oneshot,
        restart=settings.restart,
        back_off=settings.backoff or m.ProgramPolicy.back_off,
        max_restarts=settings.max_restarts,
        on_exit=settings.on_exit,
        on_failure=settings.on_failure,
        success_exit_codes=settings.success_exit_codes,
        drained_is_success=DRAINED in settings.success_exit_codes,
        on_watchdog=settings.on_watchdog,
        readyz=settings.readyz,
        live=settings.live is not None,
        on_unhealthy=settings.on_unhealthy,
        agent=settings.agent != "off",
        dump_signal=settings.dump_signal or 0,
    )


def _drain(settings: Settings) -> m.DrainPolicy:
    if settings.drain is None and settings.drain_start is None:
        return m.ProgramPolicy.drain
    from gracewrap.config.probe_specs import rests_on_tcp  # loaded: there is a drain

    return m.DrainPolicy(
        probes=len(settings.drain.probes) if settings.drain else 0,
        combine=settings.drain.combine if settings.drain else "all",
        when=settings.drain_when,
        start=settings.drain_start is not None,
        interval=settings.drain_interval,
        timeout=settings.drain_timeout,
        min_drain=settings.drain_min_drain,
        confirm=settings.drain_confirm,
        streams=settings.drain_streams,
        requests_only=settings.drain is not None and rests_on_tcp(settings.drain),
        linger=settings.drain_linger,
    )
