"""The exec probe: runs a command; the number that it prints decides, else its exit status."""

from __future__ import annotations

from gracewrap.linux.exec_errors import explain
from gracewrap.linux.procfs import SHORTAGE
from gracewrap.linux.signals import name
from gracewrap.policy.model import BUSY, DRAINED, INVALID, UNREACHABLE, Reading
from gracewrap.probes.base import Probe
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gracewrap.config.probe_specs import ExecProbeSpec
    from gracewrap.linux.hook_and_probe_process_groups import Helper, Helpers
    from gracewrap.probes.base import OnReading

MAX_OUTPUT = 4096  # bytes of stdout that are kept
_MAX_LINE = 120  # characters of its first line that are shown


class ExecProbe(Probe):
    """Starts the command for each sample."""

    def __init__(self, spec: ExecProbeSpec, helpers: Helpers) -> None:
        self._command, self._counts, self._helpers = spec.command, spec.counts, helpers
        self._helper: Helper | None = None

    def sample(self, on_reading: OnReading) -> None:
        """Take one sample."""
        self.cancel()

        def exited(status: int, output: bytes) -> None:
            self._helper = None
            on_reading(interpret(status, output, self._counts))

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


def interpret(status: int, output: bytes, counts: bool = True) -> Reading:
    """Return the reading for an exit status and the output.

    A number on the first line that is not empty is the number in flight, whatever the status:
    `redis-cli LLEN` exits with 0 and `grep -c` with 1 however much there is.  Without a number, and
    without *counts*, status 0 is drained and any other is busy.  126 and 127 are what shells report
    for a command that cannot be executed or is not found.  A command that a signal has ended has
    not counted to the end.
    """
    line = output.strip().partition(b"\n")[0].strip()
    text = line.decode(errors="replace")[:_MAX_LINE]
    text = "".join(char if char.isprintable() else "?" for char in text)
    why = f"exit status {status}"
    if status > 128:  # as a shell reports a signal; the command may also have exited with it
        why += f" ({name(status - 128)})"
    if status in (126, 127):
        text = text or ("cannot be executed" if status == 126 else "not found")
        return Reading(INVALID, None, f"{why}: {text}")
    number = _number(line) if counts and status <= 128 else None
    if number is None:
        if status == 0:
            return Reading(DRAINED)
        return Reading(BUSY, None, f"{why}: {text}" if text else why)
    if not 0 <= number < float("inf"):
        return Reading(INVALID, None, f"printed {text}, which counts nothing")
    if number:
        return Reading(BUSY, number, f"{text} in flight")
    return Reading(DRAINED, 0.0)


def _number(word: bytes) -> float | None:
    """Return a number, or None."""
    try:
        return None if b"_" in word else float(word)
    except ValueError:
        return None


def _not_started(command: Sequence[str], errno: int) -> Reading:
    why = explain(command, errno)[1]
    if errno in SHORTAGE:  # it is not the command's fault
        return Reading(UNREACHABLE, None, why, asked=False)
    return Reading(INVALID, None, why)
