"""The page of a drill: whole, self-contained, and nothing from outside gets into its markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from gracewrap.drill import formats, page, verdict
from gracewrap.drill.fates import FATES, NOT_DONE, TWICE, Request
from gracewrap.drill.model import Asked, Run
from gracewrap.picture.draw_text import lines, plain

ODD = "</title><script>alert(1)</script>\"'&\x1b[31m\n```"


class Tags(HTMLParser):
    """Counts what is open, and notes each tag and attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in {"meta", "line", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def ran(who: str = "gracewrap", **more: object) -> Run:
    found = [
        Request(ODD, 0.05 * n - 0.4, 0.05 * n, fate, kept, ODD)
        for n, fate in enumerate(FATES)
        for kept in (True, False, None)
    ]
    fields = {"duration": 1.5, "exit_status": 0, "diverted": 0.5, **more}
    return Run(who, 1.0, tuple(found), **fields)


def made(*runs: Run, **asked: object) -> str:
    wanted = Asked((ODD, "server"), urls=(ODD,), **asked)
    return page.html(wanted, runs, verdict.judge(wanted, runs))


@pytest.mark.parametrize(
    "text",
    [
        made(ran(leftovers=(ODD,), ports=(80,), report={"killed": [ODD]}), ran(ODD), ran(ODD)),
        made(ran(exit_status=None, diverted=None), load_command=ODD),
        made(ran(), job_command=(ODD,)),
        made(Run("gracewrap", 1.0, (), 0.0, 0)),
    ],
)
def test_the_page_is_whole_and_holds_no_markup_of_others(text):
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert not tags.seen & {"script", "img", "link", "iframe", "a"}
    assert "\x1b" not in text
    assert not re.search(r"url\(|https?://(?!127)", text)  # it needs nothing from anywhere
    assert "prefers-color-scheme:dark" in text


def test_each_fate_has_its_colour_and_each_request_its_bar():
    text = made(ran())
    for fate in FATES:
        name = page._name(fate)
        assert text.count(f'class="{name}" x=') == 3, fate  # three kinds of connection
        assert text.count(f".{name}{{") == 2, fate  # light and dark
    bars = [float(one) for one in re.findall(r'class="f-[^"]*" x="([\d.]+)"', text)]
    assert min(bars) >= page.LEFT and max(bars) <= page.WIDTH
    assert "the balancer sends elsewhere" in text and "exit after 1.5 s" in text


def test_many_requests_at_once_stay_in_the_picture():
    many = tuple(Request("http://x/", 0.001 * n, 5.0, "ok", False) for n in range(2000))
    text = made(Run("gracewrap", 1.0, many, 5.0, 0))
    (height,) = re.findall(r'<svg viewBox="0 0 960 ([\d.]+)"', text)
    assert float(height) < 400


def test_a_terminal_of_80_columns_breaks_sentences_between_words():
    wanted = Asked(())
    of_requests = [one for one in ran().requests if one.fate not in (NOT_DONE, TWICE)]
    run = Run("gracewrap", 1.0, tuple(of_requests), 1.5, 143)
    told = formats.text([run], verdict.judge(wanted, [run]), 80)
    table = told.splitlines()[:2]
    assert all(len(line) <= 80 for line in told.splitlines() if " " in line.strip()), told
    assert len(table[0]) == len(table[1]) <= 80


def test_the_terminal_shows_the_stop_with_what_was_in_flight():
    report = {
        "gracewrap": "0.1.0", "stop_began": "today", "used_seconds": 2.0, "budget_seconds": 25.0,
        "timeline": [{"at": 0.0, "event": "stop_requested"},
                     {"at": 0.5, "event": "stop_signal", "signal": "SIGTERM"}],
    }  # fmt: skip
    sent = [Request("http://x/", n - 2.0, n / 2, "ok" if n else "cut", True) for n in range(4)]
    chart = formats.timeline(Run("gracewrap", 1.0, tuple(sent), 2.0, 0, (), (), report, 1.0))
    assert chart is not None
    row = chart.rows[-1]
    assert (row.name, row.said, row.bad) == ("requests", "in the stop: 3 ok", True)
    assert [(one.at, one.value) for one in row.samples] == [(0.0, 2), (0.5, 1), (1.0, 1), (1.5, 0)]
    text = plain(lines([chart], 80))
    assert max(map(len, text.splitlines())) <= 80 and "in the stop: 3 ok" in text
    assert formats.timeline(Run("bare", 1.0, (), 2.0, 0)) is None


def test_the_summary_of_a_step_stays_in_its_block():
    run = ran()
    text = formats.markdown([run], verdict.judge(Asked(()), [run]))
    fence = re.search(r"^(`+)text$", text, re.MULTILINE)
    assert fence is not None and len(fence[1]) == 4
    assert text.count(fence[1]) == 2
