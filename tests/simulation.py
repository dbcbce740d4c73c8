"""A world without processes: the policy is fed events, and time passes by its own deadlines."""

from __future__ import annotations

from gracewrap.policy import coordinator
from gracewrap.policy import model as m


class Simulation:
    """Runs one policy.  *log* holds (time, command) for every command that is not a note."""

    def __init__(self, policy: m.Policy, at: float = 100.0) -> None:
        self.policy = policy
        self.now = at
        self.system: coordinator.System = coordinator.begin(policy)
        self.log: list[tuple[float, m.Command]] = []
        self.notes: list[m.Note] = []
        self.unsent = 0
        self.ticks = 0

    def feed(self, event: m.Event) -> None:
        self.system, commands = coordinator.step(self.system, event, self.policy)
        for command in commands:
            if isinstance(command, m.Note):
                self.notes.append(command)
            else:
                self.log.append((self.now, command))
            if isinstance(command, m.CountUnsent):
                self.feed(m.UnsentCounted(self.unsent, self.now))

    def signal(self, signum: int) -> None:
        self.feed(m.SignalReceived(signum, self.now))

    def leader_exits(self, status: int = 0, signum: int = 0, left: bool = False, program: int = 0) -> None:
        self.feed(m.LeaderExited(program, status, signum, left, self.now))

    def rest_goes(self, program: int = 0) -> None:
        self.feed(m.ProgramGone(program, self.now))

    def pass_time(self, seconds: float) -> None:
        """Let *seconds* pass, with a tick at each deadline; a tick at the deadline must move the deadline."""
        until = self.now + seconds
        while (due := coordinator.deadline(self.system, self.policy)) is not None and due <= until:
            self.now = max(self.now, due)
            self.feed(m.Tick(self.now))
            self.ticks += 1
            after = coordinator.deadline(self.system, self.policy)
            assert after is None or after > due, f"a tick at {due} did not move the deadline: {self.system}"
        self.now = until

    @property
    def commands(self) -> list[m.Command]:
        return [command for _, command in self.log]

    @property
    def status(self) -> int | None:
        """The exit status that was commanded, or None."""
        found = [command.status for command in self.commands if isinstance(command, m.Exit)]
        assert len(found) <= 1
        return found[0] if found else None


def simulate(shutdown_timeout: float = 25.0, **settings: object) -> Simulation:
    """Return a simulation of one program; settings of the program or of the whole, by name."""
    whole = {k: v for k, v in settings.items() if k in m.Policy.__match_args__}
    one = {k: v for k, v in settings.items() if k not in whole}
    whole.setdefault("flush_timeout", 0.0)
    policy = m.Policy((m.ProgramPolicy(**one),), shutdown_timeout=shutdown_timeout, **whole)  # type: ignore[arg-type]
    return Simulation(policy)
