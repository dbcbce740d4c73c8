"""Calls that are made in a thread: what becomes of those that take long."""

from __future__ import annotations

import os
import signal
import time

import pytest

from gracewrap.linux import call_in_thread
from processes import BOUND


def test_it_returns_and_raises_what_the_call_does():
    one = call_in_thread.Aside()
    assert one.call(lambda: 7, BOUND) == 7
    with pytest.raises(ZeroDivisionError):
        one.call(lambda: 1 // 0, BOUND)
    assert one.call(lambda: 8, BOUND) == 8
    assert not one.is_busy


def test_a_call_that_takes_long_is_left_alone_and_its_end_is_told_by_sigchld():
    reading, writing = os.pipe()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        one = call_in_thread.Aside()
        for _ in range(2):
            with pytest.raises(BlockingIOError):
                one.call(lambda: os.read(reading, 9), 0)
            assert one.is_busy
        os.write(writing, b"late")
        assert signal.sigtimedwait({signal.SIGCHLD}, BOUND)
        assert one.call(lambda: b"another", 0) == b"late"
        assert not one.is_busy
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(reading)
        os.close(writing)


def test_whoever_waits_for_a_late_call_is_woken_by_its_end():
    reading, writing = os.pipe()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        one = call_in_thread.Aside()
        with pytest.raises(BlockingIOError):
            one.call(lambda: os.read(reading, 9), 0)
        os.write(writing, b"late")
        began = time.monotonic()
        one.wait_until_idle(BOUND)
        assert time.monotonic() - began < BOUND
        assert one.call(lambda: b"another", 0) == b"late"
        assert signal.sigtimedwait({signal.SIGCHLD}, BOUND)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(reading)
        os.close(writing)


def test_without_a_thread_to_be_had_the_call_is_made_at_once(monkeypatch):
    def none(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(call_in_thread._thread, "start_new_thread", none)
    assert call_in_thread.Aside().call(lambda: 7, 0) == 7
