"""A health check: who is asked how often, and when the answers change what the check says; one
example a rule, then properties over any answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gracewrap.policy import health_check, time_gap
from gracewrap.policy.health_check import Check, CheckPolicy
from gracewrap.record import replace

START, EPSILON = 100.0, 1e-6
TIMEOUT = 2.0  # of one answer, as the runtime has it

# Returns for a probe and a time whether it passes (None: it cannot be asked), and how long the
# answer takes.
Answers = Callable[[int, float], tuple[bool | None, float]]
ONE = CheckPolicy((False,))


class Asked:
    """A check that is asked, by a clock that does not wait.

    Attributes:
        asks: When each probe was asked.
        said: What each answer of a probe was, and when it came.
        changes: When the check began to pass (True), or to fail.
        overdue_at: When it was found not to have passed in time.
    """

    def __init__(self, policy: CheckPolicy, answers: Answers) -> None:
        self.policy, self.answers, self.now = policy, answers, START
        self.check: Check = health_check.begin(policy, START, START)
        self._coming: dict[int, tuple[float, bool | None]] = {}
        self.asks: list[tuple[float, int]] = []
        self.said: list[tuple[float, int, bool | None]] = []
        self.changes: list[tuple[float, bool]] = []
        self.overdue_at: float | None = None
        self._tick()

    def _tick(self) -> None:
        before = self.check
        self.check, due = health_check.tick(before, self.policy, self.now)
        if self.check.overdue and not before.overdue:
            self.overdue_at = self.now
        for probe in due:
            assert probe not in self._coming, "it is being asked already"
            self.asks.append((self.now, probe))
            passes, takes = self.answers(probe, self.now)
            passes, takes = (False, TIMEOUT) if takes > TIMEOUT else (passes, takes)
            self._coming[probe] = self.now + takes, passes

    def _answer(self, probe: int) -> None:
        _, passes = self._coming.pop(probe)
        before = self.check
        self.check = health_check.answered(before, self.policy, probe, passes, "no", self.now)
        self.said.append((self.now, probe, passes))
        if self.check.passing is not before.passing:
            self.changes.append((self.now, self.check.passing))

    def hurry(self) -> None:
        """Let the program say something."""
        self.check = health_check.hurry(self.check, self.now)
        self._tick()

    def run(self, seconds: float) -> Asked:
        """Let time pass."""
        until = self.now + seconds
        while True:
            deadline = health_check.deadline(self.check, self.policy)
            coming = min(((at, probe) for probe, (at, _) in self._coming.items()), default=None)
            due = min(t for t in (deadline, coming and coming[0], until) if t is not None)
            if due >= until:
                self.now = until
                return self
            self.now = max(self.now, due)
            if coming is not None and coming[0] <= self.now:
                self._answer(coming[1])
                continue
            self._tick()
            after = health_check.deadline(self.check, self.policy)
            assert after is None or after > due, "a tick at the deadline did not move it"

    def times(self, probe: int = 0, since: float = 0.0) -> list[float]:
        """When a probe was asked."""
        return [at - START for at, asked in self.asks if asked == probe and at >= START + since]


def from_to(*spans: tuple[float, float], takes: float = 0.001) -> Answers:
    """Return an application that passes in these spans of seconds since the start."""
    return lambda _, at: (any(a <= at - START < b for a, b in spans), takes)


def gaps(times: list[float]) -> list[float]:
    return [b - a for a, b in zip(times, times[1:])]


def near(at: float) -> object:
    return pytest.approx(at, abs=0.01)


# --- what the start looks like -------------------------------------------------------------------


def test_until_it_has_passed_it_is_asked_soon_and_then_every_quarter_second():
    s = Asked(ONE, from_to()).run(3)
    assert s.times()[:4] == [near(at) for at in (0.0, 0.02, 0.06, 0.14)]
    assert max(gaps(s.times())) == near(0.25) and not s.changes


def test_then_it_is_asked_as_often_as_the_settings_say():
    s = Asked(replace(ONE, every=5.0), from_to((1.0, 60.0))).run(30)
    assert [passing for _, passing in s.changes] == [True]
    assert {round(gap, 2) for gap in gaps(s.times(since=1.0))} == {5.0}


def test_what_is_to_be_asked_more_often_than_the_start_is_so_from_the_start():
    s = Asked(replace(ONE, every=0.1), from_to()).run(2)
    assert max(gaps(s.times())) == near(0.1)


def test_what_cannot_be_asked_is_neither_well_nor_ill_and_is_asked_again():
    """For want of a process; two answers before and one after make no three in a row."""

    def answers(_: int, at: float) -> tuple[bool | None, float]:
        passes = {10: False, 11: False, 22: False, 23: False, 24: False}
        return (None if 12 <= at - START < 22 else passes.get(int(at - START), True)), 0.001

    s = Asked(replace(ONE, every=1.0), answers).run(21)
    assert [passing for _, passing in s.changes] == [True]
    assert max(gaps(s.times(since=2.0))) == near(1.0)
    s.run(9)
    assert [passing for _, passing in s.changes] == [True, False, True]


def test_what_is_not_ready_in_time_is_overdue_once_and_goes_on_being_asked():
    s = Asked(replace(ONE, limit=10.0), from_to((30.0, 90.0))).run(40)
    assert s.overdue_at == near(START + 10) and s.times(since=11.0)
    assert [(at - START, passing) for at, passing in s.changes] == [(near(30.17), True)]


def test_what_has_passed_in_time_is_never_overdue():
    s = Asked(replace(ONE, limit=10.0), from_to((9.0, 9.5))).run(60)
    assert s.overdue_at is None and [passing for _, passing in s.changes] == [True, False]


# --- how many in a row count ---------------------------------------------------------------------


def test_a_single_failure_changes_nothing():
    s = Asked(ONE, from_to((0, 5.5), (6.5, 60))).run(30)
    assert len(s.changes) == 1 and (False in [passes for _, _, passes in s.said])


def test_so_many_failures_in_a_row_do_and_as_many_passes_as_are_asked_for_take_it_back():
    policy = replace(ONE, failures=3, passes=2)
    s = Asked(policy, from_to((0, 10.5), (20.5, 60))).run(40)
    assert [(round(at - START), passing) for at, passing in s.changes] == [
        (0, True),
        (13, False),
        (22, True),
    ]


def test_what_flaps_faster_than_that_stays_what_it_was():
    s = Asked(ONE, lambda _, at: (int(at - START) % 3 != 2, 0.001)).run(60)
    assert s.changes == [(near(START), True)]


# --- applications that hang, freeze, or are slow -------------------------------------------------


def test_what_answers_nothing_fails_after_the_time_of_three_answers():
    s = Asked(ONE, lambda _, at: (True, 0.001 if at < START + 10.5 else 600)).run(30)
    assert [(near(at - START), passing) for at, passing in s.changes] == [
        (near(0), True),
        (near(11 + 3 * TIMEOUT), False),
    ]
    assert max(gaps(s.times())) <= TIMEOUT + EPSILON  # at once after the answer that did not come


def test_what_is_slow_but_answers_is_asked_after_each_answer_and_goes_on_passing():
    s = Asked(ONE, from_to((0, 60), takes=1.8)).run(30)
    assert [passing for _, passing in s.changes] == [True]
    assert {round(gap, 3) for gap in gaps(s.times())} <= {1.8, 1.82}


# --- several probes ------------------------------------------------------------------------------


@pytest.mark.parametrize(("combine", "at"), [("all", 8), ("any", 13)])
def test_several_are_combined(combine, at):
    policy = CheckPolicy((False, False), combine)
    s = Asked(policy, lambda i, now: (now - START < (5.5, 10.5)[i], 0.001)).run(20)
    assert [(round(when - START), passing) for when, passing in s.changes] == [
        (0, True),
        (at, False),
    ]


def test_what_lasts_is_not_asked_again_and_nothing_wakes_for_it():
    s = Asked(CheckPolicy((True,)), from_to((1.0, 60.0))).run(60)
    assert [passing for _, passing in s.changes] == [True] and max(s.times()) < 1.3
    assert health_check.deadline(s.check, s.policy) is None


def test_what_lasts_does_not_keep_the_other_from_being_asked():
    s = Asked(CheckPolicy((True, False)), lambda i, now: (i == 0 or now < START + 10.5, 0.0)).run(
        20
    )
    assert [passing for _, passing in s.changes] == [True, False]
    assert len(s.times(0)) == 1 and len(s.times(1)) >= 19


def test_what_the_program_says_is_looked_at_at_once():
    s = Asked(replace(ONE, every=60.0), from_to((0, 5), (40, 90))).run(30)
    s.hurry()
    assert s.times()[-1] == near(30)


def test_for_a_time_in_which_nobody_was_there_to_ask_it_is_not_overdue():
    s = Asked(replace(ONE, limit=10.0), from_to((55.0, 90.0))).run(5)
    s.check, s.now = time_gap.later(s.check, 50.0), s.now + 50.0
    s.run(20)
    assert s.overdue_at is None and len(s.changes) == 1


# --- any answers ---------------------------------------------------------------------------------

policies = st.builds(
    CheckPolicy,
    lasting=st.lists(st.booleans(), min_size=1, max_size=3).map(tuple),
    combine=st.sampled_from(["all", "any"]),
    every=st.sampled_from([0.01, 0.25, 1.0, 5.0, 30.0]),
    failures=st.integers(1, 5),
    passes=st.integers(1, 5),
    limit=st.none() | st.floats(0.01, 60),
)
# How one probe behaves: well, frozen for good or for a time, slow, flapping, or any of these in
# turn.
_phases = st.lists(
    st.tuples(
        st.floats(0, 40),  # for so many seconds
        st.booleans(),
        st.sampled_from([0.0, 0.001, 0.5, 1.9, 600.0]),
    ),
    min_size=1,
    max_size=8,
)


def _played(phases: list[list[tuple[float, bool, float]]]) -> Answers:
    def answer(probe: int, at: float) -> tuple[bool, float]:
        at -= START
        for seconds, passes, takes in phases[probe]:
            if at < seconds:
                return passes, takes
            at -= seconds
        return phases[probe][-1][1:]

    return answer


@settings(max_examples=100, deadline=None)
@given(policies, st.lists(_phases, min_size=3, max_size=3), st.floats(1, 120))
def test_any_answers_change_it_only_after_so_many_in_a_row(policy, phases, seconds):
    s = Asked(policy, _played(phases)).run(seconds)
    for i in range(len(policy.lasting)):
        passing, in_a_row, expected = False, 0, []
        for at, probe, passes in s.said:
            if probe == i:
                in_a_row = 0 if passes is passing else in_a_row + 1
                if in_a_row >= (policy.passes if passes else policy.failures):
                    passing, in_a_row = passes, 0
                expected.append((at, passing))
        assert s.check.probes[i].passing is (expected[-1][1] if expected else False)
    directions = [passing for _, passing in s.changes]
    assert directions == [n % 2 == 0 for n in range(len(directions))]
    if len(directions) > 1:  # no sooner than the answers that it takes
        assert s.changes[1][0] - s.changes[0][0] >= (policy.failures - 1) * 0.01 - EPSILON


@settings(max_examples=100, deadline=None)
@given(policies, st.lists(_phases, min_size=3, max_size=3), st.floats(1, 120))
def test_any_probe_is_asked_in_time_and_never_too_often(policy, phases, seconds):
    s = Asked(policy, _played(phases)).run(seconds)
    passed_at = s.changes[0][0] - START if s.changes else seconds
    for i, lasts in enumerate(policy.lasting):
        later = gaps(s.times(i, since=passed_at + EPSILON))
        assert all(gap >= policy.every - EPSILON for gap in later)
        assert all(gap <= max(policy.every, TIMEOUT) + EPSILON for gap in later)
        if lasts and s.check.probes[i].passing:
            continue  # it need not be asked again
        last = s.times(i)[-1]
        assert seconds - last <= max(policy.every, TIMEOUT) + health_check.START_INTERVAL + EPSILON


@settings(max_examples=100, deadline=None)
@given(policies, st.lists(_phases, min_size=3, max_size=3), st.floats(1, 120))
def test_any_check_is_overdue_at_its_limit_if_it_has_not_passed_by_then(policy, phases, seconds):
    s = Asked(policy, _played(phases)).run(seconds)
    first = s.changes[0][0] - START if s.changes else float("inf")
    # An answer at the very limit may be on either side of it: START rounds.
    if policy.limit is None or min(first, seconds) < policy.limit - EPSILON:
        assert s.overdue_at is None
    elif min(first, seconds) > policy.limit + EPSILON:
        assert s.overdue_at == pytest.approx(START + policy.limit, abs=EPSILON)
