"""What must be there before the command is: the sockets of health.listen, NOTIFY_SOCKET, and what
the command is to be.

Only where they are asked for.
"""

from __future__ import annotations

import sys

from gracewrap.record import TYPE_CHECKING, Record, replace
from gracewrap.runtime.handover import Equipment

if TYPE_CHECKING:
    from gracewrap.config.settings import Settings
    from gracewrap.linux.between_fork_and_exec import ExecContext
    from gracewrap.runtime.handover import Handover


class Prepared(Record):
    """What has been opened and looked up."""

    listening: tuple[int, ...] = ()
    equipment: tuple[Equipment, ...] = (Equipment(),)  # of each program

    @property
    def fds(self) -> tuple[int, ...]:
        """All descriptors of it, which are ours to keep."""
        return (
            *self.listening,
            *(one.notify[0] for one in self.equipment if one.notify is not None),
            *(one.agent[0] for one in self.equipment if one.agent is not None),
        )


class Unprepared(Exception):
    """Something cannot be had; the text says what, and what to do."""


def prepare(settings: Settings) -> Prepared:
    """Open and look up what *settings* ask for.

    Raises:
        Unprepared: With a message for people.
    """
    _require(settings)
    equipment = tuple(_equipment(one) for one in settings.each)
    return Prepared(
        tuple(_listen(settings, i) for i in range(len(settings.health_listen))),
        equipment,
    )


def _require(settings: Settings) -> None:
    """Refuse what this Python cannot do, before anything is started that would need it."""
    needs_http = any(one.needs_http for one in settings.each)
    incomplete = (
        f"this Python has no complete standard library ({sys.executable}); install python3, not "
        "only python3-minimal"
    )
    if any(one.rlimits for one in settings.each) and not _is_there("resource"):
        raise Unprepared(f"cannot set rlimits: {incomplete}")
    if needs_http and not all(map(_is_there, ("dataclasses", "json"))):
        raise Unprepared(
            f"cannot speak HTTP (health.listen, http probes, URLs of hooks): {incomplete}"
        )
    if needs_http and not _is_there("h11"):
        raise Unprepared(
            "cannot speak HTTP (health.listen, http probes, URLs of hooks): this Python has no "
            "h11; pip install h11"
        )


def _equipment(settings: Settings) -> Equipment:
    process = _process(settings) if settings.changes_process else None
    environment = {b"GRACEWRAP_PROGRAM": settings.name.encode()} if settings.name else {}
    made = Equipment(environment, process)
    if settings.agent != "off":
        from gracewrap.runtime import node_agent

        loaded = node_agent.prepare(settings.command, process)
        environment |= loaded.variables
        made = replace(made, agent=loaded.socket, without_agent=loaded.why_not)
    return _with_notify(made, environment, settings) if settings.notify else made


def _with_notify(made: Equipment, environment: dict[bytes, bytes], settings: Settings) -> Equipment:
    from gracewrap.linux import sd_notify

    try:
        fd, value = sd_notify.make()
    except OSError as error:
        raise Unprepared(
            f"cannot make a socket for NOTIFY_SOCKET: {error.strerror}; write notify = false to go "
            "without"
        ) from None
    environment[b"NOTIFY_SOCKET"] = value.encode()
    if settings.watchdog:
        environment[b"WATCHDOG_USEC"] = str(int(settings.watchdog * 1_000_000)).encode()
    return replace(made, environment=environment, notify=(fd, value))


def _process(settings: Settings) -> ExecContext:
    from gracewrap.config import user_lookup

    try:
        return user_lookup.resolve_exec_context(settings)
    except user_lookup.Unusable as fault:
        raise Unprepared(str(fault)) from None


def _is_there(module: str) -> bool:
    """Return whether a module can be imported, without importing it: that can wait until the
    command runs."""
    if module in sys.builtin_module_names or module in sys.modules:
        return sys.modules.get(module, sys) is not None
    return any(finder.find_spec(module, None) is not None for finder in sys.meta_path)


def _listen(settings: Settings, index: int) -> int:
    from gracewrap.server import listen

    address = settings.health_listen[index]
    try:
        return listen.bind(address)
    except OSError as error:
        origin = settings.origins.get("health.listen", "default")
        raise Unprepared(
            f"cannot listen on {address.shown} (health.listen, {origin}): {error.strerror}; write "
            "another address"
        ) from None


def clean(handover: Handover, settings: Settings) -> None:
    """Remove the socket files that were made."""
    from gracewrap.server import listen

    for address in settings.health_listen:
        if address.path:
            listen.remove(address.path)
    for one in handover.equipment:
        if one.notify is not None:
            from gracewrap.linux import sd_notify

            sd_notify.remove(one.notify[1])
        if one.agent is not None:
            from gracewrap.runtime import node_agent

            node_agent.remove(one.agent[1])
