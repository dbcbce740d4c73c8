"""Fixtures: a stub of a running gracewrap, a terminal, a real gracewrap."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from control_stub import Stub, Terminal, a_status
from processes import BOUND, INSTALLED


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Stub]:
    server = Stub(str(tmp_path / "c.sock"))
    server.say("/status", (200, a_status()))
    yield server
    server.end()
    server.thread.join(BOUND)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    terminals: list[Terminal] = []

    def begin(*words: object, **options: str) -> Terminal:
        terminals.append(Terminal(*words, **options))
        return terminals[-1]

    yield begin
    for one in terminals:
        one.close()


@pytest.fixture
def real(talk: Callable[..., object], tmp_path: Path) -> Callable[..., object]:
    """Start a real gracewrap around a talker, with its control socket where nothing else is."""

    def begin(*options: object) -> object:
        run = talk(
            options=("--control-socket", tmp_path / "real.sock", *options), command=INSTALLED
        )
        run.child = run.ready()
        return run

    begin.place = ("--socket", tmp_path / "real.sock")  # type: ignore[attr-defined]
    return begin
