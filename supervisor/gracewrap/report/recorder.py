"""The story of a run: notes become log lines and timeline, and in the end a summary and a
report."""

from __future__ import annotations

from gracewrap.linux.procfs import read_file
from gracewrap.policy.model import INVALID, UNREACHABLE
from gracewrap.record import TYPE_CHECKING
from gracewrap.report import messages
from gracewrap.report.log import timestamp
from gracewrap.report.program_history import (
    OUTCOMES,
    ProgramHistory,
    counted,
    most_telling,
    signal_name,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gracewrap.policy.model import Note, Reading
    from gracewrap.report.log import Log

# Fields that only choose the words.
FOR_WORDS = (
    "ignores",
    "waits",
    "who",
    "asked",
    "ours",
    "typed",
    "told",
    "held",
    "doing",
    "several",
    "named",
    "parts",
    "ended",
    "oneshot",
    "then",
    "cause",
)
# notes kept for the report, and for each further program some more; a flood must not fill the
# memory
TIMELINE = 200
TIMELINE_MORE = 8


class Recorder:
    """Keeps what happened.  Times are on the loop's monotonic clock; *wall* is what the wall clock
    shows at *at*.

    Args:
        log: Where lines go.
        budget: Seconds there are for the stop of all.
        at: When the run began.
        wall: The same in seconds since 1970.
        programs: Name and command of each; one command alone has no name.
    """

    def __init__(
        self,
        log: Log,
        budget: float,
        at: float,
        wall: float,
        programs: Sequence[tuple[str, Sequence[str]]],
    ) -> None:
        self.log, self.budget = log, budget
        self.started, self.started_wall = at, wall
        self.histories = [ProgramHistory(*program) for program in programs]
        self.several = (
            len(self.histories) if self.histories[0].name else 0
        )  # 0: the one command, of which no line says its name
        self.all = (
            ProgramHistory(self._everybody(), ()) if self.several else self.histories[0]
        )  # for what is about no single one
        self.since: float | None = None  # when the stop began
        self.asked: dict[str, object] = {}
        self.cause = ""  # whose end the stop began with, if nobody asked
        self.exit_code_from: int | None = None  # the program whose status is to be ours
        self.timeline: list[dict[str, object]] = []
        self.omitted = 0
        self.counts = {"orphans_reaped": 0, "signals_forwarded": 0}
        self.unsent = 0
        self.output_lost = 0  # lines of the programs'
        self.sender = (
            ""  # of the signal that is being told about; siginfo is looked up only when it is
        )
        self.siginfo: tuple[int, int, int] | None = None
        self.interactive = False
        self._room = TIMELINE + TIMELINE_MORE * (len(self.histories) - 1)
        self._before = 0  # how many entries of the timeline are from before the stop
        self._faults: set[str] = set()
        self._late: list[
            tuple[int, float]
        ] = []  # which programs have been started, and when, without a word of it so far

    def _everybody(self) -> str:
        names = messages.listed([history.name for history in self.histories])
        return f"{self.several} programs ({names})" if self.several > 1 else names

    def _tale(self, program: int | None) -> ProgramHistory:
        return self.all if program is None else self.histories[program]

    @property
    def interrupted(self) -> float | None:
        """What was in flight when it was cut, of all programs, as far as that is known."""
        known = [
            history.interrupted for history in self.histories if history.interrupted is not None
        ]
        return sum(known) if known else None

    # --- what happens ----------------------------------------------------------------------------

    def note(self, note: Note, at: float) -> None:
        """Take in one note of the policy, completed with what only the doing has shown (sender,
        members)."""
        fields = {k: v for k, v in note.fields.items() if k != "program"}
        program = note.fields.get("program")
        index = program if isinstance(program, int) else None
        if note.what == "probe_invalid" and not self._is_news(
            _mistake(index, fields["probe"], fields["why"])
        ):
            return  # it was told when the command started
        self.counts["signals_forwarded"] += note.what == "forwarded"
        self.tell(note.what, at, index, **fields)

    def forwarded(self, signum: int, sent: int, at: float) -> None:
        """Count a signal that was passed on (*sent* is 0: dropped); told at debug level only, for
        there may be thousands."""
        if sent:
            self.counts["signals_forwarded"] += 1
        if self.log.lowest == 0:
            self.tell("forwarded" if sent else "dropped", at, signal=signum, sent=sent)

    def started_one(self, program: int, at: float) -> None:
        """A program has been started: told before whatever comes next, or by catch_up(); hundreds
        need not wait for that."""
        self._late.append((program, at))

    def catch_up(self, now: float) -> None:
        """Tell what has not been told yet."""
        late, self._late = self._late, []
        for program, at in late:
            self.log.behind = max(0.0, now - at)
            self.tell("started", at, program)
        self.log.behind = 0.0

    def tell(self, what: str, at: float, program: int | None = None, **fields: object) -> None:
        """Take in one thing that happened, to one program or (None) to no single one, and log
        it."""
        if self._late:
            self.catch_up(at)
        if fields.get("hook") == "push":
            program = None  # it is done for all
        history = self._tale(program)
        fields.setdefault("who", history.who)
        if self.several:
            named: dict[str, object] = {} if program is None else {"program": history.name}
            fields = {**named, **fields, "several": self.several}
        self._name_others(fields)
        self._take(what, at, history, fields)
        history.take(what, at, fields, self.since)
        if what == "leftover" and fields["told"] and not fields["members"]:
            return  # it was just leaving
        self._say(what, at, fields)

    def _say(self, what: str, at: float, fields: dict[str, object]) -> None:
        level, sentence = messages.describe(what, fields)
        if level != "debug" or what == "in_flight":
            self._keep(what, at, fields)
        if what == "in_flight" and self.log.format == "json":
            level = "info"  # an event on change; people read it in the line of each second
        if self.log.enabled(level):
            elapsed = {} if self.since is None else {"elapsed": round(at - self.since, 6)}
            if self.log.format == "auto":
                self.log.open()
            if elapsed and self.log.format == "text":
                sentence = (
                    f"{at - self.since:6.2f} s  {sentence}" if self.since is not None else sentence
                )
            self.log.say(level, what, sentence, {**elapsed, **_named(fields)})

    def _name_others(self, fields: dict[str, object]) -> None:
        """Put names in the place of what a note says of other programs than its own."""
        programs, parts = fields.get("programs"), fields.get("parts")
        if isinstance(programs, tuple):
            names = [self.histories[i].label for i in programs]
            fields.update(programs=names if self.several else None, named=messages.listed(names))
        if isinstance(parts, list):
            fields["programs"] = [part.fields() for part in parts]

    def _take(
        self, what: str, at: float, history: ProgramHistory, fields: dict[str, object]
    ) -> None:
        """Keep what matters to the run as a whole."""
        match what:
            case "stop_requested":
                self._requested(at, fields)
            case "leader_exited" | "start_failed":
                fields["typed"] = self.interactive and fields.get("signal") in (
                    2,
                    3,
                )  # Ctrl-C, Ctrl-\\: the terminal sent it
                if (
                    self.since is None
                    and not fields.get("asked")
                    and fields.get("then", "shutdown") == "shutdown"
                ):
                    self.since, fields["cause"] = at, True
                    ran = "signal" in fields
                    end = messages.outcome(fields) if ran else "could not be started"
                    self.cause = f"{history.label} {end}"
            case "all_ended":
                self.since = at if self.since is None else self.since
                self.cause = self.cause or "all programs have ended"
            case "drain_requested" | "undrain_requested":
                fields["who"] = self._there() or fields["who"]
                for one in self.histories if what == "drain_requested" else ():
                    one.drain_begins(at)
            case "unsent":
                self.unsent = int(str(fields["connections"]))

    def _there(self) -> str:
        """Return which programs there are, for people, if others have ended before; else ""."""
        there = (
            [history.name for history in self.histories if history.is_there] if self.several else []
        )
        return messages.listed(there) if there and len(there) < self.several else ""

    def _requested(self, at: float, fields: dict[str, object]) -> None:
        if self.siginfo is not None:
            self.sender = sender(*self.siginfo, int(str(fields["signal"])))
        fields["who"] = self._there() or fields["who"]
        fields.update(sender=self.sender, budget=self.budget)
        self.since = at
        if fields["signal"]:
            self.asked = {"signal": signal_name(fields["signal"]), "sender": self.sender}
        else:
            self.asked = {"signal": None, "sender": fields["by"]}

    def sampled(self, program: int, probe: int, reading: Reading, at: float) -> None:
        """Take in what a probe said; a change of what is in flight is told."""
        history = self.histories[program]
        changed = history.numbers.take(probe, reading, at)
        shown = history.numbers.shown()
        if changed and shown and history.drain_began is not None:
            self.tell(
                "in_flight", at, program, numbers=shown, in_flight=history.numbers.in_flight()
            )

    def looked(self, program: int, probe: int, reading: Reading, at: float) -> None:
        """Tell what a first look with a probe has shown: a mistake now, the rest at debug level."""
        history = self.histories[program]
        kind = history.numbers.probes[probe].kind
        if reading.kind == INVALID and self._is_news(_mistake(program, probe, reading.why)):
            self.tell("probe_invalid", at, program, probe=kind, why=reading.why)
        elif reading.kind == UNREACHABLE:
            self.tell(
                "probe_silent", at, program, probe=kind, why=reading.why, after=at - history.started
            )
        elif self.log.lowest == 0:
            seen = {"reading": reading.kind, "in_flight": reading.in_flight, "why": reading.why}
            self.tell("probe_seen", at, program, probe=kind, **seen)

    def part(
        self,
        program: int,
        remaining: float,
        doing: str = "",
        waits_for: Sequence[int] = (),
        held: bool = False,
        is_leftover: bool = False,
    ) -> messages.WaitedFor:
        """Return what one of several programs is waited for, for tell("waiting", parts=[...],
        elapsed=, remaining=).

        Args:
            program: Its index.
            remaining: Seconds until it is killed, or until it is sent the stop signal while it is
                *held*.
            doing: What it is held for: "pre_stop", "draining".
            waits_for: The programs that are stopped before it; then nothing else matters.
            held: The stop signal has not gone yet.
            is_leftover: Its leader is gone: its numbers say nothing any more.
        """
        history = self.histories[program]
        numbers = "" if is_leftover or waits_for else history.numbers.shown()
        return messages.WaitedFor(
            history.name,
            remaining,
            doing,
            held,
            tuple(self.histories[i].name for i in waits_for),
            numbers,
            None if is_leftover else history.numbers.in_flight(),
            "" if numbers or is_leftover or waits_for else history.numbers.busy(),
        )

    def facts(self, program: int, at: float) -> dict[str, str]:
        """Return what a program's hooks find in their environment, after GRACEWRAP_."""
        history = self.histories[program]
        elapsed = 0.0 if self.since is None else at - self.since
        facts = {
            "COMMAND_PID": str(history.pid),
            "REASON": self.requested_by(),
            "ELAPSED": f"{elapsed:.3f}",
            "LEFT": f"{max(0.0, self.budget - elapsed):.3f}",
        }
        facts |= {"PROGRAM": history.name} if self.several else {}
        ended = history.facts()
        return facts | ({"OUTCOME": self.outcome(program), **ended} if ended else {})

    def requested_by(self) -> str:
        """Return who asked for the stop, for people."""
        if not self.asked:
            return self.cause if self.several or not self.cause else "the command's own exit"
        return (
            f"{self.asked['signal']} from {self.asked['sender']}"
            if self.asked["signal"]
            else str(self.asked["sender"])
        )

    def fault(self, error: BaseException, at: float) -> None:
        """Tell of something that failed beside the command; each kind of it once."""
        text = f"{type(error).__name__}: {error}"
        if self._is_news(text):
            self.tell("fault", at, error=text)

    def _is_news(self, text: str) -> bool:
        """Return whether this has not been told yet; nothing is, once too much has."""
        news = text not in self._faults and len(self._faults) < TIMELINE
        self._faults.add(text) if news else None
        return news

    def _keep(self, what: str, at: float, fields: dict[str, object]) -> None:
        """Keep a note for the report; where there is no more room, what is longest past goes, but
        nothing of the stop does."""
        if len(self.timeline) >= self._room:
            self.omitted += 1
            if not self._before:
                return
            del self.timeline[0]
            self._before -= 1
        self._before += self.since is None
        start = self.started if self.since is None else self.since
        self.timeline.append({"at": round(at - start, 6), "event": what, **_named(fields)})

    # --- in the end ------------------------------------------------------------------------------

    def outcome(self, program: int | None = None) -> str:
        """Return in one word how a program ended; of all (None): how the worst off has."""
        if program is not None:
            return self.histories[program].outcome()
        ended = {history.outcome() for history in self.histories} - {"skipped"}
        return next(
            (one for one in OUTCOMES if one in ended), "graceful" if self.asked else "exited"
        )

    def summary(self, status: int, at: float) -> tuple[str, str] | None:
        """Return level and text of the last line, or None after a run in which nothing happened but
        the command's end."""
        if (
            not self.several
            and not self.asked
            and not any(
                history.leftover or history.killed or history.sent for history in self.histories
            )
        ):
            return None
        used = at - (at if self.since is None else self.since)
        took = f"stopped in {messages.seconds(round(used, 3))} of {messages.seconds(self.budget)}"
        left = max(0.0, self.budget - used)
        parts = self._ends()
        if self.counts["orphans_reaped"]:
            parts.append(f"orphans reaped: {self.counts['orphans_reaped']}")
        if self.log.dropped:
            parts.append(f"log lines lost: {self.log.dropped}")
        bad = any(
            history.gave_up or history.not_started or (history.killed and not history.early)
            for history in self.histories
        )
        text = (
            f"{took}, {messages.seconds(round(left, 3))} left: {'; '.join(parts)}; exit status "
            f"{status}{self._whose(status)}"
        )
        if hint := self._own_status(status):
            text += f'; for 0 write success_exit_codes = ["{hint.removeprefix("SIG")}"]'
        return "warning" if bad else "info", text

    def _ends(self) -> list[str]:
        """Return how all of it ended, for people."""
        if not self.several:
            return [self.all.how(self.since), *self.all.particulars()]
        shown, rest = most_telling(self.histories)
        ends = [", ".join((history.how(self.since), *history.particulars())) for history in shown]
        ends += [counted(rest)] if rest else []
        return [f"{self.several} programs: {ends[0]}", *ends[1:]] if self.several > 1 else ends

    def _whose(self, status: int) -> str:
        """Return whose status it is that is no success: of exit_code_from, else of the first that
        failed so."""
        history = self._exit_code_from(status)
        return f" ({history.name}'s)" if history is not None and history.name else ""

    def _own_status(self, status: int) -> str:
        """Return the signal whose number is in an exit status that says no more than that: it was
        stopped as it was asked to."""
        history = self._exit_code_from(status)
        return history.own_status(self.since) if history is not None and self.asked else ""

    def _exit_code_from(self, status: int) -> ProgramHistory | None:
        """Return whose status it is."""
        if not status:
            return None
        if (
            self.exit_code_from is not None
            and self.histories[self.exit_code_from].status() == status
        ):
            return self.histories[self.exit_code_from]
        such = [history for history in self.histories if history.status() == status]
        return min(
            such,
            key=lambda history: float(str(history.leader.get("at", float("inf")))),
            default=None,
        )

    def last_words(self, status: int, at: float) -> dict[str, object]:
        """Return the summary's fields for machines."""
        used = 0.0 if self.since is None else at - self.since
        drained = [
            history.drained_after
            for history in self.histories
            if history.numbers.probes or history.drained_after is not None
        ]
        all_drained = [after for after in drained if after is not None]
        return {
            "outcome": self.outcome(),
            "exit_status": status,
            "budget_seconds": self.budget,
            "used_seconds": round(used, 6),
            "left_seconds": round(max(0.0, self.budget - used), 6),
            "killed": [one for history in self.histories for one in history.killed],
            "interrupted": self.interrupted,
            "drained_after_seconds": round(max(all_drained), 6)
            if drained and len(all_drained) == len(drained)
            else None,
            "orphans_reaped": self.counts["orphans_reaped"],
        }

    def report(self, status: int, at: float, version: str) -> dict[str, object]:
        """Return all of it as a JSON-able dict."""
        last = self.summary(status, at)
        how = (
            "; ".join(self._ends())
            if self.several
            else self.all.not_started or self.all.how(self.since)
        )
        return {
            "gracewrap": version,
            **self.last_words(status, at),
            "summary": last[1] if last else f"{how}; exit status {status}{self._whose(status)}",
            **(self._of_several(status) if self.several else self._of_one()),
            "log_lines_lost": self.log.dropped,
            "output_lines_lost": self.output_lost,
            "signals_forwarded": self.counts["signals_forwarded"],
            "timeline": self.timeline,
            "timeline_omitted": self.omitted,
        }

    def _begun(self) -> dict[str, object]:
        return {
            "started": self._wall(self.started),
            "stop_began": None if self.since is None else self._wall(self.since),
            "requested_by": self.asked or None,
        }

    def _wall(self, at: float) -> str:
        return timestamp(self.started_wall + at - self.started)

    def _of_one(self) -> dict[str, object]:
        history = self.all
        return {
            "command": history.command,
            "pid": history.pid,
            **self._begun(),
            "signals_sent": history.sent,
            "leader": history.leader_entry(),
            "left_behind": history.leftover or None,
            "unsent_connections": self.unsent,
            "drain": history.drain_entry(),
            "hooks": history.hooks_entry(),
        }

    def _of_several(self, status: int) -> dict[str, object]:
        return {
            **self._begun(),
            "cause": None if self.asked else self.cause or None,
            "exit_code_from": None
            if (whose := self._exit_code_from(status)) is None
            else whose.name,
            "unsent_connections": self.unsent,
            "hooks": self.all.hooks_entry(),
            "programs": [self._entry(history) for history in self.histories],
        }

    def _entry(self, history: ProgramHistory) -> dict[str, object]:
        return {
            **history.entry(self.since),
            "started": self._wall(history.started) if history.pid else None,
        }


_FROM_A_TERMINAL = {
    1: "the terminal, which has gone",
    2: "the terminal (Ctrl-C)",
    3: "the terminal (Ctrl-\\)",
}


def _mistake(program: int | None, probe: object, why: object) -> str:
    return f"probe {probe} of {program or 0}: {why}"


def _named(fields: dict[str, object]) -> dict[str, object]:
    """Return the fields for machines: signals by name, the empty ones left out."""
    named = {
        k: signal_name(v) if k in ("signal", "sent") else v
        for k, v in fields.items()
        if k not in FOR_WORDS
    }
    return {k: v for k, v in named.items() if v not in (None, "")}


def sender(pid: int, uid: int, code: int, signum: int) -> str:
    """Return who sent a signal, from its siginfo (sigaction(2)): the kernel, somebody outside, or a
    process."""
    if code > 0:  # SI_KERNEL
        return _FROM_A_TERMINAL.get(signum, "the kernel")
    if pid == 0:
        return "outside this PID namespace (docker stop, the kubelet)"
    found = read_file(f"/proc/{pid}/comm").decode(errors="replace").strip()
    return f"{found + ' (' if found else ''}pid {pid}, uid {uid}{')' if found else ''}"
