"""The exec probe: runs a command; exit status 0 means drained."""

from __future__ import annotations

from gracewrap.linux.exec_errors import explain
from gracewrap.linux.signals import name
from gracewrap.policy.model import BUSY, DRAINED, INVALID, UNREACHABLE, Reading
from gracewrap.probes.base import Probe
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gracewrap.config.probe_specs import ExecProbeSpec
    from gracewrap.linux.helper_processes import Helper, Helpers
    from gracewrap.probes.base import OnReading

MAX_OUTPUT = 4096  # bytes of stdout that are kept
_MAX_LINE = 120  # characters of its first line that are shown
# EAGAIN, ENOMEM, ENFILE, EMFILE: not the command's fault; the next sample may succeed.
_TEMPORARY = {11, 12, 23, 24}


class ExecProbe(Probe):
    """Starts the command for each sample."""

    def __init__(self, spec: ExecProbeSpec, helpers: Helpers) -> None:
        self._command, self._helpers = spec.command, helpers
        self._helper: Helper | None = None

    def sample(self, on_reading: OnReading) -> None:
        """Take one sample."""
        self.cancel()

        def exited(status: int, output: bytes) -> None:
            self._helper = None
            on_reading(interpret(status, output))

        try:
            self._helper = self._helpers.run(self._command, exited, capture=MAX_OUTPUT)
        except OSError as error:
            on_reading(_not_started(self._command, error.errno or 0))
        except ValueError as error:  # an argument contains a NUL
            on_reading(Reading(INVALID, None, f"cannot run {self._command[0]!r}: {error}"))

    def cancel(self) -> None:
        """Kill the running command and its process group."""
        helper, self._helper = self._helper, None
        self._helpers.kill(helper)


def interpret(status: int, output: bytes) -> Reading:
    """Return the reading for an exit status and the output.

    Status 0 is drained, whatever the output.  With any other status the program is busy, and a
    number on the first line of the output is the number in flight.  126 and 127 are what shells
    report for a command that cannot be executed or is not found.
    """
    if status == 0:
        return Reading(DRAINED)
    line = output.partition(b"\n")[0].strip()
    text = line.decode(errors="replace")[:_MAX_LINE]
    text = "".join(char if char.isprintable() else "?" for char in text)
    why = f"exit status {status}"
    if status > 128:  # as a shell reports a signal; the command may also have exited with it
        why += f" ({name(status - 128)})"
    if status in (126, 127):
        text = text or ("cannot be executed" if status == 126 else "not found")
        return Reading(INVALID, None, f"{why}: {text}")
    number = _number(line)
    if number is not None:
        return Reading(BUSY, number, f"{text} in flight")
    return Reading(BUSY, None, f"{why}: {text}" if text else why)


def _number(word: bytes) -> float | None:
    """Return a finite number of 0 or more, or None."""
    try:
        number = float(word)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") and b"_" not in word else None


def _not_started(command: Sequence[str], errno: int) -> Reading:
    return Reading(
        UNREACHABLE if errno in _TEMPORARY else INVALID, None, explain(command, errno)[1]
    )
