"""The story of a run: notes become log lines and timeline, and in the end a summary and a report."""

from __future__ import annotations

from gracewrap.policy.model import INVALID, UNREACHABLE
from gracewrap.policy.program import EARLY
from gracewrap.posix import read_file, signals, tree
from gracewrap.record import TYPE_CHECKING
from gracewrap.report import words
from gracewrap.report.log import timestamp
from gracewrap.report.numbers import Number, Numbers, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gracewrap.policy.model import Note, Reading
    from gracewrap.report.log import Log

FOR_WORDS = ("who", "asked", "typed", "told", "held", "doing")  # fields that only choose the words
AT_ONCE = 0.1  # seconds; a handler that finishes anything takes longer
TIMELINE = 200  # notes kept for the report; a flood of signals must not fill the memory


class Narrator:
    """Keeps what happened.  Times are on the loop's monotonic clock; *started_at* ties it to the wall clock."""

    def __init__(self, log: Log, command: Sequence[str], pid: int, budget: float, at: float, wall: float) -> None:
        self.log = log
        self.command = list(command)
        self.pid = pid
        self.budget = budget
        self.started, self.started_wall = at, wall
        self.since: float | None = None  # when the stop began
        self.asked: dict[str, object] = {}
        self.timeline: list[dict[str, object]] = []
        self.omitted = 0
        self.counts = {"orphans_reaped": 0, "signals_forwarded": 0}
        self.leader: dict[str, object] = {}
        self.killed: list[str] = []
        self.leftover = ""
        self.sent: list[str] = []
        self.gave_up = False
        self.not_started = ""  # why not
        self.unsent = 0
        self.sender = ""  # of the signal that is being told about; siginfo is looked up only when it is
        self.siginfo: tuple[int, int, int] | None = None
        self.interactive = False
        self.members = ""
        self.gave_in = False  # the stop signal went although it was not drained
        self.early = False  # it was killed because it was drained, and for no other reason
        self.untold = ""  # who was killed without ever having been sent the stop signal
        self.numbers = Numbers(())
        self.interrupted: float | None = None  # what was in flight when it was cut, if that is known
        self.drained_after: float | None = None  # seconds from the stop request, or from that for a drain
        self.drain_began: float | None = None
        self.hooks: dict[str, dict[str, object]] = {}
        self._faults: set[str] = set()

    @property
    def who(self) -> str:
        """The leader, for people: its name and pid."""
        return f"{self.command[0].rpartition('/')[2] or self.command[0]} (pid {self.pid})"

    def note(self, note: Note, at: float) -> None:
        """Take in one note of the policy, completed with what only the doing has shown (sender, members)."""
        fields = {k: v for k, v in note.fields.items() if k != "program"}
        if note.what == "probe_invalid" and not self._is_news(f"probe {fields['probe']}: {fields['why']}"):
            return  # it was told when the command started
        self.tell(note.what, at, **fields)

    def forwarded(self, signum: int, sent: int, at: float) -> None:
        """Count a signal that was passed on (*sent* is 0: dropped); told at debug level only, for there may be thousands."""
        if sent:
            self.counts["signals_forwarded"] += 1
        if self.log.lowest == 0:
            self.tell("forwarded" if sent else "dropped", at, signal=signum, sent=sent)

    def tell(self, what: str, at: float, **fields: object) -> None:
        """Take in one thing that happened, and log it."""
        fields.setdefault("who", self.who)
        self._remember(what, at, fields)
        if what == "leftover" and fields["told"] and not fields["members"]:
            return  # it was just leaving
        level, sentence = words.describe(what, fields)
        if level != "debug" or what == "in_flight":
            self._keep(what, at, fields)
        if what == "in_flight" and self.log.format == "json":
            level = "info"  # an event on change; people read it in the line of each second
        if self.log.enabled(level):
            elapsed = {} if self.since is None else {"elapsed": round(at - self.since, 6)}
            if self.log.format == "auto":
                self.log.open()
            if elapsed and self.log.format == "text":
                sentence = f"{at - self.since:6.2f} s  {sentence}" if self.since is not None else sentence
            self.log.say(level, what, sentence, {**elapsed, **_named(fields)})

    def _remember(self, what: str, at: float, fields: dict[str, object]) -> None:
        """Keep what the summary needs."""
        match what:
            case "stop_requested":
                if self.siginfo is not None:
                    self.sender = sender(*self.siginfo)
                fields.update(sender=self.sender, budget=self.budget)
                self.since = at
                if fields["signal"]:
                    self.asked = {"signal": _signal_name(fields["signal"]), "sender": self.sender}
                else:
                    self.asked = {"signal": None, "sender": fields["by"]}
            case "leader_exited":
                fields["typed"] = self.interactive and fields["signal"] in (2, 3)  # Ctrl-C, Ctrl-\\: the terminal sent it
                self.since = at if self.since is None else self.since
                self.leader = {"status": fields["status"], "signal": fields["signal"], "at": at}
                if self.gave_in and self._ended_by_stop_signal():
                    self._cut()
            case "leftover" | "leftover_waits" | "stop_signal_ignored" | "last_call":
                if what == "leftover_waits" or fields.get("told") is False:
                    self.members = name_members(tree.descendants())
                fields["members"] = self.members
                if what.startswith("leftover"):
                    self.leftover = self.leftover or self.members
            case "stop_signal" | "rung":
                if what == "stop_signal" and self.drain_began is None:
                    self._drain_begins(at)
                self.sent.append(signals.name(int(str(fields["signal"]))))
            case "kill":
                fields.update(members=self.members, untold=self.untold)
                self.early = fields["why"] == EARLY and not self.killed
                self.killed.append(self.members or self.who)
                self._cut()
            case "gave_up":
                self.gave_up = True
            case "held_too_long" | "drain_timeout":
                self.gave_in = True
            case "draining" | "drain_requested":
                self._drain_begins(at)
            case "drained" | "undrained":
                began = self.since if self.since is not None else self.drain_began
                if "after" in fields and began is not None:
                    fields["after"] = at - began
                self.drained_after = at - began if what == "drained" and began is not None else None
            case "hook":
                self.hooks[str(fields["hook"])] = {"at": at}
            case "helper_ended":
                hook = self.hooks.setdefault(str(fields["hook"]), {"at": at})
                fields["took"] = at - float(str(hook["at"]))
                hook.update(ok=fields["ok"], why=fields["why"], seconds=round(float(str(fields["took"])), 6))
            case "probe_invalid" | "undrained" | "drain_failed" if isinstance(fields.get("probe"), int):
                fields["probe"] = self.numbers.probes[int(str(fields["probe"]))].kind
            case "unsent":
                self.unsent = int(str(fields["connections"]))

    def _drain_begins(self, at: float) -> None:
        self.drain_began = at
        self.numbers.begin()

    def _cut(self) -> None:
        """What was in flight, as far as is known, has not been finished."""
        in_flight = self.numbers.in_flight()
        if in_flight is not None and self.drain_began is not None:
            self.interrupted = in_flight if self.interrupted is None else max(self.interrupted, in_flight)

    def sampled(self, probe: int, reading: Reading, at: float) -> None:
        """Take in what a probe said; a change of what is in flight is told."""
        changed = self.numbers.take(probe, reading, at)
        shown = self.numbers.shown()
        if changed and shown and self.drain_began is not None:
            self.tell("in_flight", at, numbers=shown, in_flight=self.numbers.in_flight())

    def looked(self, probe: int, reading: Reading, at: float) -> None:
        """Tell what a first look with a probe has shown: a mistake now, the rest at debug level."""
        kind = self.numbers.probes[probe].kind
        if reading.kind == INVALID and self._is_news(f"probe {probe}: {reading.why}"):
            self.tell("probe_invalid", at, probe=kind, why=reading.why)
        elif reading.kind == UNREACHABLE:
            self.tell("probe_silent", at, probe=kind, why=reading.why, after=at - self.started)
        elif self.log.lowest == 0:
            self.tell("probe_seen", at, probe=kind, reading=reading.kind, in_flight=reading.in_flight, why=reading.why)

    def facts(self, at: float) -> dict[str, str]:
        """Return what hooks find in their environment, after GRACEWRAP_."""
        elapsed = 0.0 if self.since is None else at - self.since
        facts = {
            "COMMAND_PID": str(self.pid),
            "REASON": self.requested_by(),
            "ELAPSED": f"{elapsed:.3f}",
            "LEFT": f"{max(0.0, self.budget - elapsed):.3f}",
        }
        if self.leader or self.killed:
            status = self.leader["status"] if self.leader else 137
            facts |= {"OUTCOME": self.outcome(), "EXIT_STATUS": str(status)}
            facts["SIGNAL"] = _signal_name(self.leader["signal"]) or "" if self.leader else "SIGKILL"
            facts["INTERRUPTED"] = "" if self.interrupted is None else number(self.interrupted)
        return facts

    def requested_by(self) -> str:
        """Return who asked for the stop, for people."""
        if not self.asked:
            return "the command's own exit" if self.leader else ""
        return f"{self.asked['signal']} from {self.asked['sender']}" if self.asked["signal"] else str(self.asked["sender"])

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
        if len(self.timeline) >= TIMELINE:
            self.omitted += 1
            return
        start = self.started if self.since is None else self.since
        self.timeline.append({"at": round(at - start, 6), "event": what, **_named(fields)})

    def outcome(self) -> str:
        """Return in one word how it ended.

        not_started, exited (nobody asked), graceful, ended_by_signal (a command without a handler for the stop signal loses what
        it does; some end so after a good stop), drained (it was done, did not exit, and was killed early), killed (it, or
        something it left behind), gave_up (something is still there).
        """
        if self.not_started:
            return "not_started"
        if self.gave_up:
            return "gave_up"
        if self.killed:
            return "drained" if self.early else "killed"
        if not self.asked:
            return "exited"
        return "ended_by_signal" if self._ended_by_stop_signal() and not self.leftover else "graceful"

    def _ended_by_stop_signal(self) -> bool:
        return bool(self.leader and self.leader["signal"]) and _signal_name(self.leader["signal"]) in self.sent

    def summary(self, status: int, at: float) -> tuple[str, str] | None:
        """Return level and text of the last line, or None after a run in which nothing happened but the command's end."""
        if not self.asked and not self.leftover and not self.killed:
            return None
        used = at - (at if self.since is None else self.since)
        took = f"stopped in {words.seconds(round(used, 3))} of {words.seconds(self.budget)}"
        left = max(0.0, self.budget - used)
        parts = [self._how()]
        if self.leftover:
            parts.append(f"it left behind {self.leftover}")
        if self.early:
            parts.append("it was done, but did not exit")
        elif self.killed and self.leader:
            parts.append("some of it had to be killed" if int(str(self.leader["signal"])) != 9 else "it had to be killed")
        if self.interrupted:
            parts.append(f"{number(self.interrupted)} in flight {'were' if self.interrupted != 1 else 'was'} cut")
        elif self.drained_after is None and self.drain_began is not None and self.killed and (wrong := self.numbers.unusable()):
            parts.append(wrong)
        elif self.drained_after is not None:
            parts.append(f"drained after {words.seconds(round(self.drained_after, 2))}")
        if self.counts["orphans_reaped"]:
            parts.append(f"orphans reaped: {self.counts['orphans_reaped']}")
        if self.log.dropped:
            parts.append(f"log lines lost: {self.log.dropped}")
        level = "warning" if (self.killed and not self.early) or self.gave_up else "info"
        return level, f"{took}, {words.seconds(round(left, 3))} left: {'; '.join(parts)}; exit status {status}"

    def _how(self) -> str:
        if not self.leader:
            return f"{self.who} could not be killed"
        if self._ended_by_stop_signal():
            at_once = float(str(self.leader["at"])) - (self.since or 0.0) < AT_ONCE and not self.leftover
            hint = " at once (without a handler for it, what it was doing is lost)" if at_once else ""
            return f"{self.who} {words.outcome(self.leader)}{hint}"
        sent = f" after {', '.join(dict.fromkeys(self.sent))}" if self.sent and self.asked else ""
        return f"{self.who} {words.outcome(self.leader)}{sent}"

    def last_words(self, status: int, at: float) -> dict[str, object]:
        """Return the summary's fields for machines."""
        used = 0.0 if self.since is None else at - self.since
        return {
            "outcome": self.outcome(),
            "exit_status": status,
            "budget_seconds": self.budget,
            "used_seconds": round(used, 6),
            "left_seconds": round(max(0.0, self.budget - used), 6),
            "killed": self.killed,
            "interrupted": self.interrupted,
            "drained_after_seconds": None if self.drained_after is None else round(self.drained_after, 6),
            "orphans_reaped": self.counts["orphans_reaped"],
        }

    def report(self, status: int, at: float, version: str) -> dict[str, object]:
        """Return all of it as a JSON-able dict."""
        asked_wall = None if self.since is None else timestamp(self.started_wall + self.since - self.started)
        last = self.summary(status, at)
        how = self.not_started or self._how()
        return {
            "gracewrap": version,
            **self.last_words(status, at),
            "summary": last[1] if last else f"{how}; exit status {status}",
            "command": self.command,
            "pid": self.pid,
            "started": timestamp(self.started_wall),
            "stop_began": asked_wall,
            "requested_by": self.asked or None,
            "signals_sent": self.sent,
            "leader": {"status": self.leader["status"], "signal": _signal_name(self.leader["signal"])} if self.leader else None,
            "left_behind": self.leftover or None,
            "unsent_connections": self.unsent,
            "drain": [_probe(one) for one in self.numbers.probes],
            "hooks": {name: {k: v for k, v in hook.items() if k != "at"} for name, hook in self.hooks.items()},
            "log_lines_lost": self.log.dropped,
            "signals_forwarded": self.counts["signals_forwarded"],
            "timeline": self.timeline,
            "timeline_omitted": self.omitted,
        }


def _probe(one: Number) -> dict[str, object]:
    return {
        "probe": one.kind,
        "unit": one.unit,
        "first": one.first,
        "last": one.last,
        "reading": one.reading.kind,
        "why": one.reading.why,
        "failures": one.failures,
    }


def _signal_name(signum: object) -> str | None:
    return signals.name(int(str(signum))) if signum else None


def _named(fields: dict[str, object]) -> dict[str, object]:
    """Return the fields for machines: signals by name, the empty ones left out."""
    named = {k: _signal_name(v) if k in ("signal", "sent") else v for k, v in fields.items() if k not in FOR_WORDS}
    return {k: v for k, v in named.items() if v not in (None, "")}


def sender(pid: int, uid: int, code: int) -> str:
    """Return who sent a signal, from its siginfo (sigaction(2)): the kernel, somebody outside, or a process."""
    if code > 0:
        return "the kernel"  # SI_KERNEL: the terminal, a timer
    if pid == 0:
        return "outside this PID namespace (docker stop, the kubelet)"
    found = read_file(f"/proc/{pid}/comm").decode(errors="replace").strip()
    return f"{found + ' (' if found else ''}pid {pid}, uid {uid}{')' if found else ''}"


def name_members(members: Sequence[tree.Member], most: int = 8) -> str:
    """Return processes for people: "node (pid 7), sleep (pid 9) and 3 more"."""
    shown = ", ".join(f"{m.name} (pid {m.pid})" for m in members[:most])
    return f"{shown} and {len(members) - most} more" if len(members) > most else shown
