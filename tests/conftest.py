"""Fixtures: a place for what every test cleans up."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from processes import TALKER, Run


@pytest.fixture
def start() -> Iterator[Callable[..., Run]]:
    """Start gracewraps that are ended with the test: start("--stop-timeout", "1s", "--", "sleep",
    "9")."""
    runs: list[Run] = []

    def begin(*args: object, **options: object) -> Run:
        runs.append(Run(*args, **options))  # type: ignore[arg-type]
        return runs[-1]

    yield begin
    for run in runs:
        run.close()


@pytest.fixture
def talk(start: Callable[..., Run]) -> Callable[..., Run]:
    """Start a talker under gracewrap: talk("exit=3", options=["--stop-timeout", "1s"])."""

    def begin(
        *words: object, options: tuple[object, ...] | list[object] = (), **more: object
    ) -> Run:
        return start(*options, "--", *TALKER, *words, **more)

    return begin
