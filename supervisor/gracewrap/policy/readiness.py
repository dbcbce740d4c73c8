"""Whether all that is to be up is ready, and whether new work is welcome.  Pure."""

from __future__ import annotations

from gracewrap.policy.program_phases import Gone, Running
from gracewrap.policy.run_phases import Up, untouched
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from gracewrap.policy.model import Policy
    from gracewrap.policy.run_phases import System


def is_ready(system: System, counted: Policy | None = None) -> bool:
    """Return whether new work is welcome: nobody has asked for a stop, or for a drain, and all that
    is to be up (*counted* as of is_up()) is ready."""
    return isinstance(system, Up) and not system.drain and is_up(system, counted)


def is_up(system: Up, counted: Policy | None = None) -> bool:
    """Return whether all that is to be up is, and ready; with a policy, all that count for
    /readyz."""
    if not system.pasts:
        return all(isinstance(phase, Running) for phase in system.programs)
    return all(
        isinstance(phase, Gone)
        or (untouched(phase) and past.ready and not past.unhealthy_since)
        or (counted is not None and not counted.programs[i].readyz)
        for i, (phase, past) in enumerate(zip(system.programs, system.pasts))
    )
