"""Reads settings from GRACEWRAP_* variables."""

from __future__ import annotations

from gracewrap.config.origins import RawValue
from gracewrap.config.problems import CONFIG_VARIABLE, Problem
from gracewrap.config.schema_core import CORE
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


# What hooks are told: a gracewrap that such a hook runs finds them in its environment,
# and they are nothing to it.
HOOK_VARIABLES = frozenset(
    f"GRACEWRAP_{fact}"
    for fact in (
        "OUTCOME",
        "EXIT_STATUS",
        "SIGNAL",
        "ELAPSED",
        "LEFT",
        "INTERRUPTED",
        "COMMAND_PID",
        "REASON",
        "PROGRAM",
    )
)


def read_environment(env: Mapping[bytes, bytes]) -> tuple[list[RawValue], list[Problem]]:
    """Return what GRACEWRAP_* variables say.

    An empty one says nothing.  A slip of the pen is an error.  A name that is nothing like ours may
    be meant for somebody else, and is a warning.
    """
    given: list[RawValue] = []
    problems: list[Problem] = []
    mine = [name for name in env if name.startswith(b"GRACEWRAP_") and name != CONFIG_VARIABLE]
    if not mine:
        return given, problems
    others = {name: setting for setting in CORE for name in setting.more_variables}
    variables = {setting.variable: setting for setting in CORE if setting.flag} | others
    for name_bytes in mine:
        name = name_bytes.decode(errors="replace")
        if not env[name_bytes]:
            continue  # as `-e GRACEWRAP_X` or ${X:-} leave it: not set
        if name in HOOK_VARIABLES or (name not in variables and _service_link(name)):
            continue
        if name not in variables:
            from gracewrap.config.schema import TABLE

            variables |= {setting.variable: setting for setting in TABLE if setting.flag}
        if name in variables:
            raw = env[name_bytes].decode(errors="surrogateescape")
            place = (
                0 if name in others else len(given)
            )  # of two names of one setting, the one it is called by wins
            given.insert(place, RawValue(variables[name].key, raw, f"environment, {name}"))
        else:
            from gracewrap.config.did_you_mean import unknown_variable

            hint = unknown_variable(name, variables)
            text = (
                f"cannot use {name} (environment): {hint}"
                if hint
                else f"{name} is not a gracewrap setting; ignored"
            )
            problems.append(Problem(text, not hint))
    return given, problems


def _service_link(name: str) -> bool:
    """Return whether Kubernetes sets *name* for a service whose name starts with gracewrap, as it
    does in every pod beside it.

    Source: kubernetes pkg/kubelet/envvars: X_SERVICE_HOST, X_SERVICE_PORT[_NAME], X_PORT,
    X_PORT_80_TCP[_PROTO|_PORT|_ADDR].
    """
    if name.endswith(("_SERVICE_HOST", "_PORT")) or "_SERVICE_PORT_" in name:
        return True
    return "_PORT_" in name and name.endswith(("_TCP", "_UDP", "_SCTP", "_PROTO", "_ADDR"))
