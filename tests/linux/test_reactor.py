"""The reactor: what is watched, timed and worked on between two waits."""

from __future__ import annotations

import os
import select
import signal
import socket
import time

from reactor_driver import driving


def test_what_can_be_read_is_told_again_until_it_is_read():
    with driving() as driver:
        reading, writing = os.pipe()
        got: list[bytes] = []
        driver.reactor.watch(reading, lambda: got.append(os.read(reading, 1)))
        os.write(writing, b"abc")
        driver.until(lambda: len(got) == 3)
        # one more look, which finds nothing
        assert driver.reactor.due(time.monotonic()) is not None
        driver.reactor.run(time.monotonic())
        assert driver.reactor.due(time.monotonic()) is None
        driver.reactor.unwatch(reading)
        os.close(reading)
        os.close(writing)


def test_sigio_wakes_for_a_connection_and_its_bytes():
    """By its signal alone: the wait is for as long as the bound of the test."""
    with driving() as driver, socket.socket() as listener, socket.socket() as client:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        accepted: list[socket.socket] = []
        driver.reactor.watch(listener.fileno(), lambda: accepted.append(listener.accept()[0]))
        driver.reactor.run(time.monotonic())
        assert driver.reactor.due(time.monotonic()) is None
        client.connect(listener.getsockname())
        got = signal.sigtimedwait({signal.SIGIO}, 30)
        assert got is not None and got.si_code > 0  # from the kernel: no process can send that
        driver.reactor.notify_ready()
        driver.until(lambda: accepted)
        driver.reactor.unwatch(listener.fileno())
        accepted[0].close()


def test_timers_are_called_in_their_time_and_may_cancel_each_other():
    with driving() as driver:
        called: list[str] = []
        second = driver.reactor.call_at(10.0, lambda: called.append("second"))
        driver.reactor.call_at(5.0, lambda: (called.append("first"), driver.reactor.cancel(second)))
        assert driver.reactor.due(1.0) == 5.0
        driver.reactor.run(4.9)
        assert called == []
        driver.reactor.run(20.0)
        assert called == ["first"] and driver.reactor.due(20.0) is None


def test_work_is_done_one_slice_a_round():
    with driving() as driver:
        done: list[int] = []

        def steps():
            for number in range(3):
                done.append(number)
                yield

        driver.reactor.run_in_slices(steps())
        driver.reactor.run(0.0)
        assert done == [0] and driver.reactor.due(7.0) == 7.0
        driver.until(lambda: driver.reactor.due(0.0) is None)
        assert done == [0, 1, 2]


def test_a_poll_that_fails_is_made_again(monkeypatch):
    """ENOMEM, or no descriptor for the import."""

    class Failing:
        def register(self, *_: object) -> None:
            raise OSError(12, "Cannot allocate memory")

    with driving() as driver:
        reading, writing = os.pipe()
        got: list[bytes] = []
        driver.reactor.watch(reading, lambda: got.append(os.read(reading, 1)))
        os.write(writing, b"x")
        with monkeypatch.context() as patch:
            patch.setattr(select, "poll", Failing)
            driver.reactor.run(time.monotonic())
        assert len(driver.faults) == 1
        driver.until(lambda: got)
        driver.faults.clear()
        driver.reactor.unwatch(reading)
        os.close(reading)
        os.close(writing)


def test_what_raises_is_told_and_forgotten():
    with driving() as driver:
        reading, writing = os.pipe()
        os.write(writing, b"x")
        driver.reactor.watch(reading, lambda: 1 // 0)
        driver.reactor.call_at(0.0, lambda: 1 // 0)
        driver.reactor.run_in_slices(iter(lambda: 1 // 0, None))
        driver.until(lambda: driver.reactor.due(0.0) is None)
        assert [type(fault) for fault in driver.faults] == [ZeroDivisionError] * 3
        driver.faults.clear()
        os.close(reading)
        os.close(writing)


def test_timers_are_shifted_but_for_those_that_are_due_at_once():
    with driving() as driver:
        now = time.monotonic()
        late = driver.reactor.call_at(now - 1, lambda: None)
        driver.reactor.call_at(0.0, lambda: None)
        driver.reactor.shift(10.0)
        assert late.at == now + 9
        assert driver.reactor.due(now) == 0.0
