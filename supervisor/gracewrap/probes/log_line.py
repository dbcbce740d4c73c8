"""The log_line probe: waits for a line of the program's output that matches a pattern."""

from __future__ import annotations

import re

from gracewrap.config.parsers import answer_selectors
from gracewrap.policy.model import BUSY, DRAINED, INVALID, Reading
from gracewrap.probes.base import Probe
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gracewrap.config.probe_specs import LogLineProbeSpec
    from gracewrap.probes.base import OnReading

# Bytes of a line that are searched.  Even a harmless regular expression can take quadratic time
# (\d+ jobs, in a line of digits: 1 s for 16 KiB, 60 ms for this), and a search cannot be aborted.
MAX_SEARCHED = 1 << 12
# Colours and other styles (ECMA-48, 5.4): "ready in" must match "\x1b[32mready\x1b[0m in 3 s".
_STYLE = re.compile(rb"\x1b\[[0-?]*+[ -/]*+[@-~]")


class LogLineState:
    """Which patterns the output of the program has matched since it was started."""

    def __init__(self, specs: Iterable[LogLineProbeSpec]) -> None:
        self.matched: set[str] = set()
        self.errors: dict[str, str] = {}  # pattern -> why it cannot be used
        self._pending: dict[str, re.Pattern[str]] = {}
        for spec in specs:
            try:
                self._pending[spec.log_line] = answer_selectors.compiled(spec.log_line)
            except ValueError as error:  # not from the settings: these are checked when parsed
                self.errors[spec.log_line] = str(error)

    @property
    def is_waiting(self) -> bool:
        """Whether a pattern has not matched yet; else feed() need not be called any more."""
        return bool(self._pending)

    def feed(self, line: bytes) -> bool:
        """Match a line, without its line break; return whether a pattern matched first now."""
        if not self._pending:
            return False
        line = line[:MAX_SEARCHED]
        if b"\x1b" in line:
            line = _STYLE.sub(b"", line)
        text = line.decode(errors="replace")
        found = [pattern for pattern, compiled in self._pending.items() if compiled.search(text)]
        for pattern in found:
            self.matched.add(pattern)
            del self._pending[pattern]
        return bool(found)


class LogLineProbe(Probe):
    """Takes its samples at once, from the lines seen so far."""

    def __init__(self, spec: LogLineProbeSpec, state: LogLineState) -> None:
        self._pattern, self._state = spec.log_line, state

    def sample(self, on_reading: OnReading) -> None:
        """Take one sample."""
        if self._pattern in self._state.matched:
            on_reading(Reading(DRAINED))
        elif self._pattern in self._state.errors:
            on_reading(Reading(INVALID, None, self._state.errors[self._pattern]))
        else:
            on_reading(Reading(BUSY, None, f'no line of its output matches "{self._pattern}" yet'))
