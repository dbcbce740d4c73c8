"""What several settings of the drain, the hooks and the endpoints are together, and what is wrong
between them."""

from __future__ import annotations

from gracewrap.config.origins import Origins
from gracewrap.config.parsers import probes as probing
from gracewrap.config.probe_specs import (
    AgentProbeSpec,
    NotifyProbeSpec,
    ProbeSpec,
    ProbeSpecs,
    TcpProbeSpec,
)
from gracewrap.config.problems import Problem
from gracewrap.config.schema import FURTHER
from gracewrap.config.values import KeyFault, show_duration
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any


LINGER = 2.0
# Settings that say nothing without another one -> that one, and what to write.
NEEDS = {
    "health.on_stop": ("health.listen", 'health.listen, ":9000"'),
    "report.pushgateway_job": (
        "report.pushgateway",
        'report.pushgateway, "http://pushgateway:9091"',
    ),
    "on_watchdog": ("watchdog", 'watchdog, "30s"'),
    "ready_timeout": ("ready", 'ready, "tcp"'),
    "on_unhealthy": ("live", 'live, "http://127.0.0.1:3000/live"'),
}
OF_A_RESTART = ("backoff", "max_restarts")
OF_A_PROBE = (
    "when",
    "interval",
    "probe_timeout",
    "timeout",
    "min_drain",
    "confirm",
    "linger",
    "streams",
)

# Settings that say something only where there are several programs, and where they stand.
OF_SEVERAL = {
    **dict.fromkeys(
        ("depends_on", "stop_after", "until", "reserve", "oneshot", "readyz"),
        "in [programs.NAME]",
    ),
    "exit_code_from": "beside [programs.NAME]",
}


def of_several_only(origins: Mapping[str, str]) -> list[Problem]:
    """Return what is said of several programs where there is one command."""
    return [
        Problem(
            f"cannot use {key} ({origin}): it only works with several programs, "
            f"{OF_SEVERAL[key]}; remove it"
        )
        for key, origin in origins.items()
        if key in OF_SEVERAL
    ]


def put_together(
    values: dict[str, Any],
    origins: Mapping[str, str],
    unusable: set[str],
    where: Origins | None = None,
) -> list[Problem]:
    """Complete *values*, which hold what was given of the further settings; return what does not go
    together.

    Args:
        values: By field. Defaults are added, and drain, notify, drain_linger and
            report_pushgateway_job computed.
        origins: Where each given setting is from, by key.
        unusable: Keys whose values could not be parsed: what comes of them is no news.
        where: What they are called, if that is not what their keys say.
    """
    where = where or Origins(origins)
    for setting in FURTHER:
        if setting.field not in values:
            values[setting.field] = setting.initial()
    values["drain"] = None
    if values["agent"] == "auto":
        values["agent"] = "node" if is_node(values.get("command") or ()) else "off"
    problems: list[Problem] = []
    # Half a probe is no probe: with an unusable key of it nothing can be said about the others.
    if not any(
        key.removeprefix("drain.") in (*probing.PARSERS, "all", "any")
        for key in unusable
        if key.startswith("drain.")
    ):
        values["drain"] = _drain(values, where, problems)
        if values["drain"] is None and values["agent"] != "off" and not problems:
            values["drain"] = ProbeSpecs((AgentProbeSpec(),))
    if not problems:
        problems += [Problem(text) for text in _faults(values, where, unusable)]
    _compute(values, origins)
    return problems


def _compute(values: dict[str, Any], origins: Mapping[str, str]) -> None:
    """Set what follows from other settings."""
    hears = any(isinstance(probe, NotifyProbeSpec) for probe in _asked(values))
    if hears or values["watchdog"] is not None:
        values["notify"] = True
    if "drain.linger" not in origins:
        values["drain_linger"] = _linger(values["drain"])
    if values["report_pushgateway"] and not values["report_pushgateway_job"]:
        command = values.get("command") or ("gracewrap",)
        values["report_pushgateway_job"] = command[0].rpartition("/")[2] or "gracewrap"


def _asked(values: Mapping[str, Any]) -> tuple[ProbeSpec, ...]:
    return tuple(
        probe
        for several in (values.get("drain"), values["ready"], values["live"])
        if several
        for probe in several.probes
    )


# Commands that are, or start, Node.js; what they start inherits NODE_OPTIONS.
_NODE_COMMANDS = frozenset(
    (
        *("node", "nodejs", "npm", "npx", "yarn", "yarnpkg", "pnpm", "pnpx", "corepack"),
        *("tsx", "ts-node", "ts-node-esm", "next", "nest", "nuxt", "remix-serve", "astro", "vite"),
        *("pm2", "pm2-runtime", "nodemon", "fastify", "strapi", "directus", "n8n"),
        *("concurrently", "cross-env", "dotenvx", "env-cmd", "npm-run-all", "run-p", "run-s"),
        *("ts-node-dev", "tsnd", "nf"),
    )
)


def is_node(command: Sequence[str]) -> bool:
    """Return whether a command says that it is Node.js, or starts it: by its first word, or by the
    first one behind a shell, docker-entrypoint.sh, tini or the like."""
    if not command or _is_node(command[0]):
        return bool(command)
    from gracewrap.config import recognise_command  # for agent = "auto" alone

    words = recognise_command.without_wrappers(list(command))
    return bool(words) and _is_node(words[0])


def _is_node(word: str) -> bool:
    name = word.rpartition("/")[2]
    return name in _NODE_COMMANDS or name.endswith((".js", ".cjs", ".mjs"))


def _drain(values: Mapping[str, Any], where: Origins, problems: list[Problem]) -> ProbeSpecs | None:
    """Return the probes of [drain], or None if there are none; what is wrong between its keys
    becomes a problem."""
    origins = where.origins
    given = {key: values[f"drain_{key}"] for key in probing.PARSERS if f"drain.{key}" in origins}
    given = {
        key: value for key, value in given.items() if value is not False
    }  # notify and insecure: as if it were not there
    several = [key for key in ("all", "any") if f"drain.{key}" in origins]
    try:
        if len(several) > 1:
            raise KeyFault(
                "any", f"drain.all is set too ({origins['drain.all']}); remove one of them"
            )
        if several and given:
            key = next(iter(given))
            fault = (
                f"drain.{several[0]} is set too ({origins[f'drain.{several[0]}']}); move it "
                "into one of its tables"
            )
            raise KeyFault(key, fault)
        if several:
            specs = ProbeSpecs(values[f"drain_{several[0]}"], several[0])
            return _beside_agent(specs, values["agent"], origins[f"drain.{several[0]}"])
        return ProbeSpecs((probing.probe(given),)) if given else None
    except KeyFault as fault:
        key = f"drain.{fault.key}"
        problems.append(Problem(f"cannot use {where.name(key)} ({where(key)}): {fault}"))
        return None


def _beside_agent(specs: ProbeSpecs, agent: str, origin: str) -> ProbeSpecs:
    """Return probes that do without the agent if there is none: a preset's by the setting too."""
    others = tuple(probe for probe in specs.probes if not isinstance(probe, AgentProbeSpec))
    if not others or specs.combine != "all":
        return specs
    if agent == "off" and origin.startswith("preset "):
        return ProbeSpecs(others)
    beside = AgentProbeSpec(alone=False)
    return ProbeSpecs(tuple(one if one in others else beside for one in specs.probes))


def _linger(drain: ProbeSpecs | None) -> float | None:
    """Return how long a drained program may stay by default: not limited where the verdict may rest
    on what does not see all work: the program's connections, or what its agent knows."""
    if drain is None:
        return None
    quantity = all if drain.combine == "all" else any
    partial = TcpProbeSpec | AgentProbeSpec
    return None if quantity(isinstance(probe, partial) for probe in drain.probes) else LINGER


def reserve(shutdown_timeout: float, stop_timeout: float | None) -> float:
    """Return how long before the end of the budget the stop signal is sent at the latest, in
    seconds."""
    return min(shutdown_timeout / 10, 2.0) if stop_timeout is None else stop_timeout


def _faults(values: Mapping[str, Any], where: Origins, unusable: set[str]) -> Iterator[str]:
    for keys, find in _CHECKS:
        if not unusable.intersection(keys):
            yield from find(values, where.origins, where)


def _written(values: Mapping[str, Any], where: Origins, key: str) -> str:
    """Return a duration with its name and origin, as problems quote it."""
    return f'{where.name(key)} = "{show_duration(values[key.replace(".", "_")])}" ({where(key)})'


def _too_long(
    values: Mapping[str, Any], origins: Mapping[str, str], where: Origins
) -> Iterator[str]:
    """Parts of the budget that are longer than all of it."""
    budget = values["shutdown_timeout"]
    for key in ("drain.timeout", "drain.linger", "drain.quiet"):
        seconds = values[key.replace(".", "_")]
        if key in origins and seconds is not None and seconds > budget:
            yield (
                f"cannot use {_written(values, where, key)}: it is longer than the whole budget, "
                f"{_written(values, where, 'shutdown_timeout')}; write at most "
                f'"{show_duration(budget)}", or raise shutdown_timeout'
            )
    for key in ("pre_stop", "post_stop", "drain.start"):
        action = values[key.replace(".", "_")]
        if action is not None and action.timeout is not None and action.timeout > budget:
            what = (
                f'{where.name(key)} with timeout = "{show_duration(action.timeout)}" ({where(key)})'
            )
            yield (
                f"cannot use {what}: it is longer than the whole budget, "
                f"{_written(values, where, 'shutdown_timeout')}"
            )


def _does_not_fit(
    values: Mapping[str, Any], origins: Mapping[str, str], where: Origins
) -> Iterator[str]:
    """What comes before the stop signal, and what is kept for the time after it, must fit into the
    budget."""
    budget = values["shutdown_timeout"]
    kept = reserve(budget, values["stop_timeout"])
    parts = ["propagation_delay"] if values["propagation_delay"] else []
    if values["drain"] and values["drain_when"] == "before-signal" and values["drain_min_drain"]:
        parts.append("drain.min_drain")
    total = kept + sum(values[key.replace(".", "_")] for key in parts)
    if not parts or total <= budget + 1e-9:
        return
    rest = f'the "{show_duration(kept)}" kept for the stop signal'
    if values["stop_timeout"] is not None:
        rest = _written(values, where, "stop_timeout")
    it = "it is" if len(parts) == 1 else "they are"
    which = "it" if len(parts) == 1 and values["stop_timeout"] is None else "one of them"
    yield (
        f"cannot use {' and '.join(_written(values, where, key) for key in parts)}: together with "
        f"{rest} {it} {show_duration(total - budget)} longer than the whole budget, "
        f"{_written(values, where, 'shutdown_timeout')}; shorten {which}, or raise "
        "shutdown_timeout"
    )


def _no_time(
    values: Mapping[str, Any], origins: Mapping[str, str], where: Origins
) -> Iterator[str]:
    """A drain before the stop signal, and the stop signal is sent at once."""
    budget = values["shutdown_timeout"]
    left = budget - values["propagation_delay"] - reserve(budget, values["stop_timeout"])
    if (
        not values["drain"]
        or values["drain_when"] == "after-signal"
        or values["drain_min_drain"]
        or not budget
        or left
    ):
        return  # with min_drain, or less than nothing left, it does not fit, and that is said there
    taker = "stop_timeout" if values["stop_timeout"] is not None else "propagation_delay"
    yield (
        f"cannot use {where.name('drain.when')} ({where('drain.when')}): no time is left to drain "
        "before the stop signal, because "
        f"{_written(values, where, taker)} takes all of "
        f"{_written(values, where, 'shutdown_timeout')}; shorten it, or raise shutdown_timeout"
    )


def _never_counts(
    values: Mapping[str, Any], origins: Mapping[str, str], where: Origins
) -> Iterator[str]:
    """A drain that is over before the first answer, or before enough of them, can count."""
    if values["drain"] is None:
        return
    budget, after = values["shutdown_timeout"], values["drain_when"] == "after-signal"
    rest = (
        budget
        - values["propagation_delay"]
        - (0 if after else reserve(budget, values["stop_timeout"]))
    )
    if rest < 0 or (not after and values["drain_min_drain"] > rest):
        return  # it does not fit at all, and that has been said
    limits = [(rest, "what is left of shutdown_timeout")]
    if after and values["stop_timeout"] is not None:
        limits.append((values["stop_timeout"], "stop_timeout"))
    if values["drain_timeout"] is not None:
        limits.append((values["drain_timeout"], "drain.timeout"))
    limit, name = min(limits)
    if values["drain_min_drain"] and values["drain_min_drain"] >= limit:
        yield (
            f"cannot use {_written(values, where, 'drain.min_drain')}: no answer would ever count, "
            "because the drain is over after "
            f'"{show_duration(limit)}" ({name}); shorten it'
        )
        return
    if not {"drain.confirm", "drain.interval", "drain.timeout"}.intersection(origins):
        return  # a very short budget with the defaults: somebody may want just that
    needed = values["drain_min_drain"] + (values["drain_confirm"] - 1) * values["drain_interval"]
    if needed >= limit and budget:
        key = "drain.interval" if "drain.interval" in origins else "drain.confirm"
        yield (
            f"cannot use {where.name(key)} ({where(key)}): {values['drain_confirm']} answers in a "
            "row, one every "
            f'"{show_duration(values["drain_interval"])}", take longer than '
            f'"{show_duration(limit)}" ({name}); '
            "set a shorter interval, or require fewer"
        )


def _nothing_to_ask(
    values: Mapping[str, Any], origins: Mapping[str, str], where: Origins
) -> Iterator[str]:
    """Settings of a drain where there is no probe."""
    if values["drain"] is not None:
        return
    for name in OF_A_PROBE:
        if (key := f"drain.{name}") in origins and not (name == "when" and values["drain_start"]):
            fault = 'there is no probe in [drain]; add one, such as tcp = "auto" (--drain-tcp auto)'
            yield f"cannot use {where.name(key)} ({where(key)}): {fault}"
            return


def _alone(values: Mapping[str, Any], origins: Mapping[str, str], where: Origins) -> Iterator[str]:
    """Settings that say nothing without another one."""
    for key, (needed, example) in NEEDS.items():
        if key in origins and not values[needed.replace(".", "_")]:
            fault = f"it has no effect without {needed}; add {example}, or remove it"
            yield f"cannot use {where.name(key)} ({where(key)}): {fault}"


def starts_again(values: Mapping[str, Any]) -> bool:
    """Return whether a program is started again after its end, whichever."""
    unhealthy = values["live"] is not None and values["on_unhealthy"] == "restart"
    ends = (values["on_exit"], values["on_failure"])
    return values["restart"] != "never" or "restart" in ends or unhealthy


def _ends_for_good(
    values: Mapping[str, Any], origins: Mapping[str, str], where: Origins
) -> Iterator[str]:
    """Settings of a restart where there is none."""
    if starts_again(values):
        return
    for key in OF_A_RESTART:
        if key in origins:
            yield (
                f"cannot use {where.name(key)} ({where(key)}): it has no effect without restart; "
                "add restart, "
                '"on-failure", or remove it'
            )


def _not_notified(
    values: Mapping[str, Any], origins: Mapping[str, str], where: Origins
) -> Iterator[str]:
    """notify = false, and something that needs it."""
    if "notify" not in origins or values["notify"]:
        return
    needs = "watchdog" if values["watchdog"] is not None else ""
    needs = needs or (
        "a probe by notify"
        if any(isinstance(probe, NotifyProbeSpec) for probe in _asked(values))
        else ""
    )
    if needs:
        yield (
            f"cannot use {where.name('notify')} = false ({where('notify')}): {needs} needs it; "
            "remove it"
        )


def _without_agent(
    values: Mapping[str, Any], origins: Mapping[str, str], where: Origins
) -> Iterator[str]:
    """A probe that asks an agent which nothing loads."""
    if values["agent"] != "off" or not values["drain"]:
        return
    if any(isinstance(probe, AgentProbeSpec) for probe in values["drain"].probes):
        key = next((k for k in ("drain.all", "drain.any") if k in origins), "drain.agent")
        fault = "there is no agent to ask"
        if origins.get("agent") is not None:
            fault += f": agent is off, or the command is not Node.js ({where('agent')})"
        yield f'cannot use {where.name(key)} ({where(key)}): {fault}; add agent = "node"'


_TIMES = (
    "shutdown_timeout",
    "stop_timeout",
    "propagation_delay",
    "drain.min_drain",
    "drain.timeout",
    "drain.when",
)
_CHECKS: tuple[tuple[tuple[str, ...], Callable[..., Iterator[str]]], ...] = (
    (("shutdown_timeout", "pre_stop", "post_stop", "drain.start"), _too_long),
    (_TIMES, _does_not_fit),
    (_TIMES, _no_time),
    ((*_TIMES, "drain.confirm", "drain.interval"), _never_counts),
    (tuple(f"drain.{key}" for key in (*probing.PARSERS, "all", "any", "start")), _nothing_to_ask),
    (tuple(needed for needed, _ in NEEDS.values()), _alone),
    (("notify", "watchdog", "ready"), _not_notified),
    (("agent", "drain.agent", "drain.all", "drain.any"), _without_agent),
    (("restart", "on_exit", "on_failure"), _ends_for_good),
)
