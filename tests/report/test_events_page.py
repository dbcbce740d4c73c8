"""docs/events.md lists every event that the code can log."""

from __future__ import annotations

import re

from processes import ROOT


def test_every_log_event_is_documented():
    listed = set(
        re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "events.md").read_text(), re.MULTILINE)
    )
    sources = [file.read_text() for file in (ROOT / "supervisor" / "gracewrap").rglob("*.py")]
    records = {name for text in sources for name in re.findall(r'^    EVENT = "(\w+)"', text, re.M)}
    said = {name for text in sources for name in re.findall(r'\.say\(\s*[^,()]+,\s*"(\w+)"', text)}
    assert len(records) > 50 and {"summary", "report_failed"} <= said
    assert records | said <= listed, (records | said) - listed
