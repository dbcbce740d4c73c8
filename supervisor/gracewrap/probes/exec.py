"""Run a command and see what it says: exit status 0 is drained."""

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

OUTPUT = 4096  # bytes of stdout that are kept
_LINE = 120  # characters of its first line that are shown
# EAGAIN, ENOMEM, ENFILE, EMFILE: the command is not to blame, and the next time may do.
_NOT_NOW = {11, 12, 23, 24}


class ExecProbe(Probe):
    """Starts the command anew for each sample."""

    def __init__(self, probe: ExecProbeSpec, helpers: Helpers) -> None:
        self._command, self._helpers = probe.command, helpers
        self._helper: Helper | None = None

    def sample(self, on_reading: OnReading) -> None:
        """Take one sample."""
        self.cancel()

        def done(status: int, output: bytes) -> None:
            self._helper = None
            on_reading(read(status, output))

        try:
            self._helper = self._helpers.run(self._command, done, capture=OUTPUT)
        except OSError as error:
            on_reading(_not_run(self._command, error.errno or 0))
        except ValueError as error:  # a NUL in an argument
            on_reading(Reading(INVALID, None, f"cannot run {self._command[0]!r}: {error}"))

    def cancel(self) -> None:
        """Kill what is running, with its group."""
        helper, self._helper = self._helper, None
        self._helpers.kill(helper)


def read(status: int, output: bytes) -> Reading:
    """Return what an exit status and the output say.

    Status 0 is drained, whatever the output.  With any other, a number on the first line is what is
    in flight.  126 and 127 are what shells say of a command that cannot be executed, or is not
    there.  A command that dies of a signal has said nothing.
    """
    if status == 0:
        return Reading(DRAINED)
    line = output.partition(b"\n")[0].strip()
    shown = "".join(
        char if char.isprintable() else "?" for char in line.decode(errors="replace")[:_LINE]
    )
    why = f"exit status {status}"
    if status > 128:  # as a shell reports it, so a command may have said so itself
        why += f" ({name(status - 128)})"
    if status in (126, 127):
        return Reading(
            INVALID,
            None,
            f"{why}: {shown or ('cannot be executed' if status == 126 else 'not found')}",
        )
    number = _number(line)
    if number is not None:
        return Reading(BUSY, number, f"{shown} in flight")
    return Reading(BUSY, None, f"{why}: {shown}" if shown else why)


def _number(word: bytes) -> float | None:
    """Return a number that something can be in flight, or None."""
    try:
        number = float(word)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") and b"_" not in word else None


def _not_run(command: Sequence[str], errno: int) -> Reading:
    return Reading(UNREACHABLE if errno in _NOT_NOW else INVALID, None, explain(command, errno)[1])
