"""What the service manager above gracewrap is told of the run: ready, status, stopping.  Pure.

Loaded where it has given us a NOTIFY_SOCKET.

READY=1 is sent once, and not taken back: sd_notify(3) has no word for that.  Where nothing tells
whether the one command is ready, it is left to the command, which may have inherited the socket
and speak for itself.
"""

from __future__ import annotations

from gracewrap.policy.model import Policy
from gracewrap.policy.readiness import is_ready
from gracewrap.policy.run_phases import System, Up, is_checked
from gracewrap.record import Record

STATUS = 200  # characters of it that are passed on


class Told(Record):
    """What it has been told so far."""

    ready: bool = False
    stopping: bool = False
    status: str = ""


def speaks(policy: Policy, hears: bool) -> bool:
    """Return whether gracewrap knows when the service is ready: something is asked, the command
    *hears* (it says so to us), or it is more than one command."""
    return hears or len(policy.programs) > 1 or any(map(is_checked, policy.programs))


def news(
    told: Told, system: System, policy: Policy, phase: str, text: str = "", ready: bool = True
) -> tuple[Told, tuple[str, ...]]:
    """Return what it has been told now, and the assignments that are sent for that.

    Args:
        told: What it has been told so far.
        system: The state of all programs.
        policy: Says which of them count.
        phase: The same in one word.
        text: What the command says of itself (STATUS=).
        ready: Whether the command, where nobody asks it, has said that it is ready.
    """
    lines: list[str] = []
    is_up = isinstance(system, Up)
    now_ready = told.ready or (ready and is_ready(system, policy))
    if now_ready and not told.ready:
        lines.append("READY=1")
    if not is_up and not told.stopping:
        lines.append("STOPPING=1")
    status = f"{phase}: {text}" if text else phase
    status = " ".join(status.split())[:STATUS]
    if status != told.status:
        lines.append(f"STATUS={status}")
    return Told(now_ready, told.stopping or not is_up, status), tuple(lines)
