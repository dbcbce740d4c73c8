"""Which of the processes that a leader leaves is its successor."""

from __future__ import annotations

import pytest

from gracewrap.policy import successor
from gracewrap.policy.successor import Left


def left(pid: int = 7, name: str = "unicorn", *words: str, **more: object) -> Left:
    return Left(pid, name, words, **{"started": 20.0, "has_children": True, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "found", "pid"),
    [
        ("unicorn", [left()], 7),
        ("unicorn", [left(), left(8, started=30.0)], 8),
        ("unicorn", [left(has_children=False)], None),  # a worker
        ("unicorn", [left(started=10.2)], None),  # it went into the background
        ("unicorn", [left(name="redis")], None),
        ("gunicorn", [left(7, "python3", "python3", "gunicorn", "app:app")], 7),
        ("gunicorn", [left(7, "python3", "python3", "other.py", "gunicorn")], None),
        ("sh", [left(name="sh")], None),  # a subshell
        ("", [left()], 7),
        ("unicorn", [], None),
    ],
)
def test_the_successor_has_the_name_comes_later_and_has_workers(name, found, pid):
    assert successor.of(name, 10.0, found) == pid
