"""What is known of one program: what its log lines, the summary and the report are made of."""

from __future__ import annotations

from gracewrap.linux import process_tree, signals
from gracewrap.policy.program import EARLY, KILLED
from gracewrap.record import TYPE_CHECKING
from gracewrap.report import messages
from gracewrap.report.in_flight import InFlight, Number, number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

AT_ONCE = 0.1  # seconds; a handler that finishes anything takes longer

# How a program can have ended, the worst first.
OUTCOMES = (
    "not_started",
    "gave_up",
    "killed",
    "drained",
    "ended_by_signal",
    "graceful",
    "exited",
    "skipped",
)


class ProgramHistory:
    """What happened to one program, in its last life if it was started again; times are on the
    loop's monotonic clock."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name  # "": the one command
        self.command = list(command)
        self.pid = 0  # 0: it has not been started
        self.started = 0.0
        self.restarts = 0
        self.again = 0  # how many of these in a row because it had ended by itself
        self.last_status: int | None = None  # of the life before this one
        self.numbers = InFlight(())
        self.oneshot = False
        self.interrupted: float | None = (
            None  # what was in flight when it was cut, of all its lives
        )
        self.members = ""  # what is left of it, or was sent a signal just now
        self.find: Callable[[], Sequence[process_tree.Member]] = (
            process_tree.descendants
        )  # what is there of it
        self._ran = False
        self._forget()

    def _forget(self) -> None:
        """Begin with nothing known of how it ends."""
        self.leader: dict[str, object] = {}
        self.killed: list[str] = []
        self.leftover = ""
        self.sent: list[str] = []
        self.aborted = False  # it was sent SIGABRT, for its watchdog was missed
        self.gave_up = False
        self.not_started = ""  # why not
        self.not_started_status = KILLED
        self.gave_in = False  # the stop signal went although it was not drained
        self.early = False  # it was killed because it was drained, and for no other reason
        self.kill_why = ""
        self.ignores = False  # its leader ignores the stop signal
        self.untold = ""  # who was killed without ever having been sent the stop signal
        self.cut: float | None = None  # what was in flight when this life was cut, if that is known
        self.cut_before = self.interrupted
        self.drained_after: float | None = (
            None  # seconds from the stop request, or from that for a drain
        )
        self.drain_began: float | None = None
        self.ready_after: float | None = None
        self.told_at: float | None = None  # when its first stop signal went
        self.gone_at: float | None = None
        self.hooks: dict[str, dict[str, object]] = {}

    def begins_again(self, pid: int, at: float) -> None:
        """It has been started, for the first time or again."""
        self.pid, self.started = pid, at
        if self._ran:
            self.last_status = self.status()
            self.restarts += 1
            self._forget()
            self.numbers.begin_again()
        self._ran, self.not_started = True, ""

    @property
    def label(self) -> str:
        """Its name: the one it was given, else that of its command."""
        return self.name or self.command[0].rpartition("/")[2] or self.command[0]

    @property
    def who(self) -> str:
        """The leader, for people: its name and pid."""
        return f"{self.label} (pid {self.pid})" if self.pid else self.label

    @property
    def is_there(self) -> bool:
        """Whether it has been started, and something of it may be left."""
        return self._ran and self.gone_at is None and not self.not_started

    def members_now(self) -> str:
        """Return what there is of it, for people."""
        return name_members(self.find())

    # --- what happens ----------------------------------------------------------------------------

    def take(self, what: str, at: float, fields: dict[str, object], since: float | None) -> None:
        """Keep what matters of one thing that happened, and complete its *fields*; a stop began at
        *since*."""
        match what:
            case "leader_exited":
                self._exited(at, fields)
            case "leftover" | "leftover_waits" | "stop_signal_ignored" | "last_call":
                self._has_members(what, fields)
            case "stop_signal" | "rung":
                self._is_told(what, at, fields)
            case "watchdog_abort":
                self.aborted = True
                self.sent.append(signals.name(int(str(fields["signal"]))))
            case "kill":
                self._is_killed(fields)
            case "gave_up":
                self.gave_up = True
            case "held_too_long" | "drain_timeout":
                self.gave_in = True
            case "draining":
                self.drain_begins(at)
            case "drained" | "undrained":
                self._drains(what, at, fields, since)
            case "hook":
                self.hooks[str(fields["hook"])] = {"at": at}
            case "helper_ended":
                self._hook_ended(at, fields)
            case "ready" | "program_ready":
                self.ready_after = float(str(fields["after"]))
            case "cannot_run":
                self.not_started, self.not_started_status = (
                    str(fields["who"]),
                    int(str(fields["status"])),
                )
            case "start_failed" | "program_gone" | "program_ended" | "restarts":
                self._is_gone(what, at, fields)
        if what in ("probe_invalid", "undrained", "drain_failed") and isinstance(
            fields.get("probe"), int
        ):
            fields["probe"] = self.numbers.probes[int(str(fields["probe"]))].kind

    def _exited(self, at: float, fields: dict[str, object]) -> None:
        self.leader = {key: fields[key] for key in ("status", "signal", "asked")} | {"at": at}
        fields["ours"] = self._ended_by_us()
        if self.again and not fields["asked"] and fields.get("then") == "shutdown":
            fields["restarts"] = self.again
        if self.gave_in and self.ended_by_stop_signal():
            self._cut()

    def _has_members(self, what: str, fields: dict[str, object]) -> None:
        self.ignores = self.ignores or what == "stop_signal_ignored"
        if what == "leftover_waits" or fields.get("told") is False:
            self.members = self.members_now()
        fields["members"] = self.members
        if what.startswith("leftover"):
            self.leftover = self.leftover or self.members

    def _is_told(self, what: str, at: float, fields: dict[str, object]) -> None:
        if what == "stop_signal":
            self.told_at = at if self.told_at is None else self.told_at
            if self.drain_began is None:
                self.drain_begins(at)
        self.sent.append(signals.name(int(str(fields["signal"]))))

    def _is_killed(self, fields: dict[str, object]) -> None:
        fields.update(members=self.members, untold=self.untold, ignores=self.ignores)
        self.early = fields["why"] == EARLY and not self.killed
        self.kill_why = self.kill_why or str(fields["why"])
        self.killed.append(self.members or self.who)
        self._cut()

    def _is_gone(self, what: str, at: float, fields: dict[str, object]) -> None:
        if what == "start_failed":
            self.pid, self.leader, self.not_started = 0, {}, str(fields["why"])
            self.not_started_status = int(str(fields["status"]))
            fields["who"] = self.who
        elif what == "program_gone":
            self.gone_at = at
            if self.told_at is not None:
                fields["after"] = at - self.told_at
            fields.update(status=self.status(), asked=self.leader.get("asked", False))
        elif what == "restarts":
            self.again = int(str(fields["in_a_row"]))
            fields["restart"] = self.again
        if what == "program_ended" and self.again and self.leader.get("status"):
            fields["restarts"] = self.again
        ended = {
            "ended": self.ended(),
            "ours": self._ended_by_us(),
            "oneshot": self.oneshot,
        }
        fields.update(signal=self.leader.get("signal", 0), **ended)

    def drain_begins(self, at: float) -> None:
        """It is to take no new work from now on."""
        self.drain_began = at
        self.numbers.begin()

    def _drains(self, what: str, at: float, fields: dict[str, object], since: float | None) -> None:
        began = since if since is not None else self.drain_began
        if "after" in fields and began is not None:
            fields["after"] = at - began
        self.drained_after = at - began if what == "drained" and began is not None else None

    def _hook_ended(self, at: float, fields: dict[str, object]) -> None:
        hook = self.hooks.setdefault(str(fields["hook"]), {"at": at})
        took = at - float(str(hook["at"]))
        fields["took"] = took
        hook.update(ok=fields["ok"], why=fields["why"], seconds=round(took, 6))

    def _cut(self) -> None:
        """What was in flight, as far as is known, has not been finished."""
        in_flight = self.numbers.in_flight()
        if in_flight is not None and self.drain_began is not None:
            self.cut = in_flight if self.cut is None else max(self.cut, in_flight)
            self.interrupted = self.cut + (self.cut_before or 0)

    # --- how it ended ----------------------------------------------------------------------------

    def outcome(self) -> str:
        """Return in one word how it ended.

        not_started, exited (nobody asked), graceful, ended_by_signal (a command without a handler
        for the stop signal loses what it does; some end so after a good stop), drained (it was
        done, did not exit, and was killed early), killed (it, or something it left behind), gave_up
        (something is still there), skipped (the stop came before its start).
        """
        if self.not_started:
            return "not_started"
        if self.gave_up:
            return "gave_up"
        if self.killed:
            return "drained" if self.early else "killed"
        if not self.leader:
            return "skipped"
        if not self.leader["asked"]:
            return "exited"
        return (
            "ended_by_signal" if self.ended_by_stop_signal() and not self.leftover else "graceful"
        )

    def is_troubled(self) -> bool:
        """Return whether people will want to know how it ended."""
        if (
            self.outcome() in ("not_started", "gave_up", "killed")
            or self.leftover
            or self.interrupted
        ):
            return True
        return (
            bool(self.leader and self.leader["status"])
            and not self.early
            and not self.ended_by_stop_signal()
        )

    def ended_by_stop_signal(self) -> bool:
        """Return whether its leader was ended by a signal that we had sent it."""
        return (
            bool(self.leader and self.leader["signal"])
            and signal_name(self.leader["signal"]) in self.sent
        )

    def _ended_by_us(self) -> bool:
        """Return whether its leader was ended by a signal of ours, SIGKILL among them."""
        signalled = bool(self.leader and self.leader["signal"])
        return self.ended_by_stop_signal() or (
            signalled and self.leader["signal"] == 9 and bool(self.killed)
        )

    def status(self) -> int | None:
        """Return its exit status as a shell reports it; None: it never ran."""
        if self.leader:
            return int(str(self.leader["status"]))
        return KILLED if self.killed else self.not_started_status if self.not_started else None

    def ended(self) -> str:
        """Return how its leader ended, for people: "exited with 1"."""
        if self.leader:
            return messages.outcome(self.leader)
        if self.not_started:
            return "could not be started"
        return "could not be killed" if self.killed or not self.name else "was never started"

    def how(self, since: float | None) -> str:
        """Return in half a sentence how it ended: "web exited with 0 after SIGTERM"."""
        text = f"{self.name or self.who} {self.ended()}"
        if self.ended_by_stop_signal():
            lost = " at once (without a handler for it, what it was doing is lost)"
            return text + (lost if self._is_without_handler(since) else "")
        if (
            self.name
            and self.killed
            and not self.early
            and self.leader
            and self.leader["signal"] == 9
        ):
            return f"{text} ({self.kill_why})"
        return text + (
            f" after {', '.join(dict.fromkeys(self.sent))}"
            if self.sent and self.leader.get("asked")
            else ""
        )

    def _is_without_handler(self, since: float | None) -> bool:
        """Return whether a stop signal has ended it sooner than anything that handles one."""
        began = self.told_at if self.name else since
        at_once = float(str(self.leader["at"])) - (began or 0.0) < AT_ONCE
        return (
            self.ended_by_stop_signal()
            and at_once
            and not self.aborted
            and not self.leftover
            and self.drained_after is None
        )

    def own_status(self, since: float | None) -> str:
        """Return the signal that it has told its end by (128 + N), after a stop that may well have
        been a good one; else ""."""
        status = self.status() or 0
        name = (
            signals.name(status - 128)
            if status > 128 and self.leader.get("asked") and not self.killed and not self.aborted
            else ""
        )
        return name if name in self.sent and not self._is_without_handler(since) else ""

    def particulars(self) -> list[str]:
        """Return what else people should know of its end."""
        parts = []
        if self.leftover:
            parts.append(f"it left behind {self.leftover}")
        if self.early:
            parts.append("it was done, but did not exit")
        elif self.killed and self.leader:
            whole = int(str(self.leader["signal"])) == 9
            parts += (
                []
                if whole and self.name
                else ["it had to be killed" if whole else "some of it had to be killed"]
            )
        if self.interrupted:
            parts.append(
                f"{number(self.interrupted)} in flight "
                f"{'were' if self.interrupted != 1 else 'was'} cut"
            )
        elif (
            self.drained_after is None
            and self.drain_began is not None
            and self.killed
            and (wrong := self.numbers.unusable())
        ):
            parts.append(wrong)
        elif self.drained_after is not None:
            parts.append(f"drained after {messages.seconds(round(self.drained_after, 2))}")
        return parts

    def facts(self) -> dict[str, str]:
        """Return what its hooks learn of its end."""
        if not self.leader and not self.killed:
            return {}
        signal = signal_name(self.leader["signal"]) or "" if self.leader else "SIGKILL"
        interrupted = "" if self.interrupted is None else number(self.interrupted)
        return {"EXIT_STATUS": str(self.status()), "SIGNAL": signal, "INTERRUPTED": interrupted}

    def leader_entry(self) -> dict[str, object] | None:
        """Return how its leader ended, for the report."""
        return (
            {"status": self.leader["status"], "signal": signal_name(self.leader["signal"])}
            if self.leader
            else None
        )

    def drain_entry(self) -> list[dict[str, object]]:
        """Return what its probes have said, for the report."""
        return [_probe(one) for one in self.numbers.probes]

    def hooks_entry(self) -> dict[str, dict[str, object]]:
        """Return how its hooks went, for the report."""
        return {
            name: {k: v for k, v in hook.items() if k != "at"} for name, hook in self.hooks.items()
        }

    def entry(self, since: float | None) -> dict[str, object]:
        """Return all of it for the report of several; what is about the stop is in seconds from the
        request."""
        return {
            "name": self.name,
            "command": self.command,
            "pid": self.pid or None,
            "outcome": self.outcome(),
            "exit_status": self.status(),
            "signal": signal_name(self.leader["signal"]) if self.leader else None,
            "not_started": self.not_started or None,
            "ready_after_seconds": _rounded(self.ready_after),
            "restarts": self.restarts,
            "stop": {
                "signal_after_seconds": _from(since, self.told_at),
                "gone_after_seconds": _from(since, self.gone_at),
            },
            "signals_sent": self.sent,
            "killed": self.killed,
            "left_behind": self.leftover or None,
            "interrupted": self.interrupted,
            "drained_after_seconds": _rounded(self.drained_after),
            "drain": self.drain_entry(),
            "hooks": self.hooks_entry(),
        }


def most_telling(
    histories: Sequence[ProgramHistory],
) -> tuple[list[ProgramHistory], list[ProgramHistory]]:
    """Return the programs whose end is told one by one, and the rest: all of a few, else the worst
    of those with trouble."""
    if len(histories) <= messages.MOST:
        return list(histories), []
    troubled = sorted(
        (history for history in histories if history.is_troubled()),
        key=lambda history: OUTCOMES.index(history.outcome()),
    )
    shown = troubled[: messages.MOST]
    return shown, [history for history in histories if history not in shown]


def counted(histories: Sequence[ProgramHistory]) -> str:
    """Return how many programs ended how: "44 stopped gracefully, 2 had ended before"."""
    ends = [history.outcome() for history in histories]
    return ", ".join(f"{ends.count(one)} {_COUNTED[one]}" for one in OUTCOMES if one in ends)


_COUNTED = {
    "not_started": "could not be started",
    "gave_up": "could not be killed",
    "killed": "had to be killed",
    "drained": "were drained and killed",
    "ended_by_signal": "ended by the stop signal",
    "graceful": "stopped gracefully",
    "exited": "had ended before",
    "skipped": "were never started",
}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _from(since: float | None, at: float | None) -> float | None:
    """Return the seconds between the two; None for what was before the stop."""
    return round(at - since, 6) if at is not None and since is not None and at >= since else None


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


def signal_name(signum: object) -> str | None:
    """Return the name of a signal, or None for none."""
    return signals.name(int(str(signum))) if signum else None


def name_members(members: Sequence[process_tree.Member], most: int = 8) -> str:
    """Return processes for people: "node (pid 7), sleep (pid 9) and 3 more"."""
    shown = ", ".join(f"{m.name} (pid {m.pid})" for m in members[:most])
    return f"{shown} and {len(members) - most} more" if len(members) > most else shown
