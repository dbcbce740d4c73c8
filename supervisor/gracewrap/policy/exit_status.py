"""Which exit status gracewrap itself ends with."""

from __future__ import annotations

from gracewrap.policy.model import Policy
from gracewrap.policy.program_phases import KILLED, Gone
from gracewrap.policy.run_phases import ShuttingDown


def status_of_system(system: ShuttingDown, policy: Policy) -> int:
    """Return the status of the program that exit_code_from names, if it ever ran, else that of the
    first that has failed; a failed health check comes before all."""
    chosen = policy.exit_code_from
    if chosen is not None and (not system.pasts or system.pasts[chosen].ran):
        return _exit_status(system, chosen, policy)
    in_turn = [i for i, past in enumerate(system.pasts) if past.failed and i not in system.ignored]
    in_turn += [program for program, _ in system.exits if program not in in_turn]
    in_turn += [
        i for i in range(len(system.programs)) if i not in in_turn and i not in system.ignored
    ]
    return next((status for i in in_turn if (status := _exit_status(system, i, policy))), 0)


def _exit_status(system: ShuttingDown, program: int, policy: Policy) -> int:
    """Return 0 for a status that the user counts as success after a requested stop, else the
    status.

    128 + N of a signal N counts only if we sent N (uvicorn and Puma end a perfect drain so);
    anybody else's was not asked for.
    """
    gone, rules = system.programs[program], policy.programs[program]
    assert isinstance(gone, Gone)
    status = gone.status
    if system.pasts and system.pasts[program].failed:
        return status or 1
    codes = (
        policy.success_exit_codes if rules.success_exit_codes is None else rules.success_exit_codes
    )
    drained = (
        policy.drained_is_success if rules.drained_is_success is None else rules.drained_is_success
    )
    asked = bool(system.requests) or (program, True) in system.exits
    if asked and gone.early and status == KILLED and drained:
        return 0
    if not asked or status not in codes:
        return status
    return 0 if status <= 128 or (program, status - 128) in system.sent else status
