"""The story of a run: notes become log lines and timeline, and in the end a summary and a report."""

from __future__ import annotations

from gracewrap.posix import read_file, signals, tree
from gracewrap.record import TYPE_CHECKING
from gracewrap.report import words
from gracewrap.report.log import timestamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gracewrap.policy.model import Note
    from gracewrap.report.log import Log

FOR_WORDS = ("who", "asked", "typed", "told")  # fields that only choose the words
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
        self.untold = ""  # who was killed without ever having been sent the stop signal

    @property
    def who(self) -> str:
        """The leader, for people: its name and pid."""
        return f"{self.command[0].rpartition('/')[2] or self.command[0]} (pid {self.pid})"

    def note(self, note: Note, at: float) -> None:
        """Take in one note of the policy, completed with what only the doing has shown (sender, members)."""
        fields = {k: v for k, v in note.fields.items() if k != "program"}
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
        if level != "debug":
            self._keep(what, at, fields)
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
                self.asked = {"signal": signals.name(int(str(fields["signal"]))), "sender": self.sender}
            case "leader_exited":
                fields["typed"] = self.interactive and fields["signal"] in (2, 3)  # Ctrl-C, Ctrl-\\: the terminal sent it
                self.since = at if self.since is None else self.since
                self.leader = {"status": fields["status"], "signal": fields["signal"], "at": at}
            case "leftover" | "leftover_waits" | "stop_signal_ignored" | "last_call":
                if what == "leftover_waits" or fields.get("told") is False:
                    self.members = name_members(tree.descendants())
                fields["members"] = self.members
                if what.startswith("leftover"):
                    self.leftover = self.leftover or self.members
            case "stop_signal" | "rung":
                self.sent.append(signals.name(int(str(fields["signal"]))))
            case "kill":
                fields.update(members=self.members, untold=self.untold)
                self.killed.append(self.members or self.who)
            case "gave_up":
                self.gave_up = True
            case "unsent":
                self.unsent = int(str(fields["connections"]))

    def _keep(self, what: str, at: float, fields: dict[str, object]) -> None:
        if len(self.timeline) >= TIMELINE:
            self.omitted += 1
            return
        start = self.started if self.since is None else self.since
        self.timeline.append({"at": round(at - start, 6), "event": what, **_named(fields)})

    def outcome(self) -> str:
        """Return in one word how it ended.

        not_started, exited (nobody asked), graceful, ended_by_signal (a command without a handler for the stop signal loses what
        it does; some end so after a good stop), killed (it, or something it left behind), gave_up (something is still there).
        """
        if self.not_started:
            return "not_started"
        if self.gave_up:
            return "gave_up"
        if self.killed:
            return "killed"
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
        if self.killed and self.leader:
            parts.append("some of it had to be killed" if int(str(self.leader["signal"])) != 9 else "it had to be killed")
        if self.counts["orphans_reaped"]:
            parts.append(f"orphans reaped: {self.counts['orphans_reaped']}")
        if self.log.dropped:
            parts.append(f"log lines lost: {self.log.dropped}")
        level = "warning" if self.killed or self.gave_up else "info"
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
            "log_lines_lost": self.log.dropped,
            "signals_forwarded": self.counts["signals_forwarded"],
            "timeline": self.timeline,
            "timeline_omitted": self.omitted,
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
