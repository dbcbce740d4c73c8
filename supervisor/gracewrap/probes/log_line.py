"""Has the program written a line that says that it is ready?"""

from __future__ import annotations

import re

from gracewrap.config.parsers import selectors
from gracewrap.policy.model import BUSY, DRAINED, INVALID, Reading
from gracewrap.probes.base import Probe
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gracewrap.config.probe_specs import LogLineProbeSpec
    from gracewrap.probes.base import OnReading

# Bytes of a line, from its beginning.  Even an innocent regular expression can take the square of
# that (\d+ jobs, in a line of digits: 1 s for 16 KiB, 60 ms for this), and nothing but its own end
# ends a search.
SEARCHED = 1 << 12
# Colours and the like (ECMA-48, 5.4): "\x1b[32mready\x1b[0m in 3 s" is found by "ready in".
_STYLE = re.compile(rb"\x1b\[[0-?]*+[ -/]*+[@-~]")


class LogLineState:
    """What the program has written so far, as far as somebody waits for it.  One is for one start
    of it."""

    def __init__(self, probes: Iterable[LogLineProbeSpec]) -> None:
        self.matched: set[str] = set()
        self.errors: dict[str, str] = {}
        self._patterns: dict[str, re.Pattern[str]] = {}
        for probe in probes:
            try:
                self._patterns[probe.log_line] = selectors.compiled(probe.log_line)
            except (
                ValueError
            ) as fault:  # settings are checked before; this is for whoever makes a probe otherwise
                self.errors[probe.log_line] = str(fault)

    @property
    def is_waiting(self) -> bool:
        """Whether there is a line that has not come yet: when not, feed() need not be called any
        more."""
        return bool(self._patterns)

    def feed(self, line: bytes) -> bool:
        """Take in a line, without its end; return whether it is one that was waited for."""
        if not self._patterns:
            return False
        line = line[:SEARCHED]
        if b"\x1b" in line:
            line = _STYLE.sub(b"", line)
        text = line.decode(errors="replace")
        found = [pattern for pattern, compiled in self._patterns.items() if compiled.search(text)]
        for pattern in found:
            self.matched.add(pattern)
            del self._patterns[pattern]
        return bool(found)


class LogLineProbe(Probe):
    """Answers at once, from what has been written."""

    def __init__(self, probe: LogLineProbeSpec, state: LogLineState) -> None:
        self._pattern, self._state = probe.log_line, state

    def sample(self, on_reading: OnReading) -> None:
        """Take one sample."""
        if self._pattern in self._state.matched:
            on_reading(Reading(DRAINED))
        elif self._pattern in self._state.errors:
            on_reading(Reading(INVALID, None, self._state.errors[self._pattern]))
        else:
            on_reading(Reading(BUSY, None, f'it has not written a line with "{self._pattern}"'))
