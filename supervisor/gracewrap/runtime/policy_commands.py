"""Carries out what the policy commands: each command goes to the program that it is about."""

from __future__ import annotations

import posix
import time

from gracewrap.linux import unsent_bytes
from gracewrap.policy import model as m
from gracewrap.policy.log_events import LogRecord
from gracewrap.policy.program_phases import Killing
from gracewrap.policy.run_phases import ShuttingDown, is_stopping, phase
from gracewrap.record import TYPE_CHECKING, assert_never

if TYPE_CHECKING:
    from collections.abc import Callable

    from gracewrap.linux.reactor import Reactor
    from gracewrap.policy.model import Policy
    from gracewrap.policy.run_phases import System
    from gracewrap.runtime.programs import Programs


class CommandExecutor:
    """Carries out commands, but for those that the loop has to know of (StartProgram, Exit).

    Args:
        programs: Of the run, by their index.
        policy: As the policy has it.
        reactor: Has the timers.
        fault: Is told what raises and may not cost the child.
    """

    def __init__(
        self,
        programs: Programs,
        policy: Policy,
        reactor: Reactor,
        fault: Callable[[BaseException], None],
    ) -> None:
        self._programs, self._policy, self._reactor, self._fault = programs, policy, reactor, fault

    def do(self, command: m.Command, system: System) -> m.Event | None:
        """Carry out one command, which has made the system this one; return the event that answers
        at once, if any."""
        programs = self._programs
        match command:
            case m.SendLeader(i, signum) if self._is_stop(system, i, signum):
                return programs[i].send_stop(signum)
            case m.SendLeader(i, signum):
                programs[i].child.signal(signum)
            case m.SendGroup(i, signum) if self._is_stop(system, i, signum):
                return programs[i].send_stop_group(signum)
            case m.SendGroup(i, signum):
                programs[i].child.signal_group(signum)
            case m.SendTo(i, targets, signum):
                programs[i].child.send_to(targets, signum)
            case m.Look(i):
                return programs[i].see()
            case m.Examine(i):
                try:
                    programs[i].examine(command)
                except Exception as error:
                    self._fault(error)
            case m.SendDump(i, targets, signum):
                programs[i].child.send_dump(targets, signum)
            case m.KillProgram(i):
                return self._kill(i, isinstance(system, ShuttingDown))
            case m.ShiftTimers(seconds):
                self._shift(seconds)
            case m.Ask() | m.StopAsking() | m.StopChecks() | m.RunHelper() | m.StopHelper():
                return programs[command.program].do(command)
            case m.RestartWatchdog() | m.ExcuseWatchdog():
                return programs[command.program].do(command)
            case m.TellAgents(i):
                return programs[i].tell_agents(command)
            case m.CountUnsent():
                return m.UnsentCounted(unsent_bytes.unsent_connections(), time.monotonic())
            case m.StartProgram() | m.Exit() | LogRecord():
                pass
            case _:
                assert_never(command)
        return None

    def _kill(self, index: int, shutting_down: bool) -> m.Event:
        """SIGKILL what is left of a program; return how it looks, or, the first time, what was seen
        of it if it was being looked at."""
        # Whoever is there beside the programs (docker exec) goes with the last one, but not with a
        # restart.
        everyone = shutting_down and self._programs.is_last(index) and posix.getpid() == 1
        seen: m.Event = self._programs[index].kill(everyone)
        try:
            return self._programs[index].cut_examination() or seen
        except Exception as error:
            self._fault(error)
            return seen

    def _shift(self, seconds: float) -> None:
        self._reactor.shift(seconds)
        for program in self._programs:
            program.shift(seconds)

    def _is_stop(self, system: System, index: int, signum: int) -> bool:
        """Return whether *signum*, about to be sent to a program, is meant as its stop signal."""
        stopping = is_stopping(system, index) or isinstance(phase(system, index), Killing)
        return stopping and signum == self._policy.programs[index].stop_signal
