"""Where a signal that gracewrap has received goes: to the programs at once, to the log file, to the
terminal's job control, or to the policy."""

from __future__ import annotations

from gracewrap.config.settings import REOPEN, RESTART
from gracewrap.linux import process_tree, terminal
from gracewrap.linux.signals import SIGCONT, SIGTSTP, SIGWINCH, is_our_own, name
from gracewrap.policy import forwarding
from gracewrap.policy import model as m
from gracewrap.record import TYPE_CHECKING
from gracewrap.report.signal_sender import sender

if TYPE_CHECKING:
    import _signal
    from collections.abc import Callable

    from gracewrap.config.settings import Settings
    from gracewrap.policy.model import Policy
    from gracewrap.report.recorder import Recorder
    from gracewrap.runtime.programs import Programs

Route = tuple[m.SendLeader | m.SendGroup, ...]


class SignalRouter:
    """Passes on what is for the programs, and returns what the policy has to decide about.

    Args:
        do: Carries out a command of the policy.
        safely: Calls what must not cost the child: an exception is logged.
    """

    def __init__(
        self,
        settings: Settings,
        policy: Policy,
        programs: Programs,
        recorder: Recorder,
        tty: int | None,
        do: Callable[[m.Command], object],
        safely: Callable[[Callable[[], object]], None],
    ) -> None:
        self.settings, self.policy, self.programs = settings, policy, programs
        self.recorder, self.tty, self.do, self.safely = recorder, tty, do, safely
        self._routes: dict[int, Route | None] = {}

    def received(
        self, got: _signal.struct_siginfo, at: float
    ) -> m.SignalReceived | m.RollingRestartRequested | None:
        """Act on a signal; return the event for the policy, or None if it is done with."""
        signum = got.si_signo
        is_stop = signum in self.policy.stop_on
        if self._is_nobody_s(got, is_stop):
            return None
        if self.tty is not None and self.programs.leaders and signum == SIGCONT and not is_stop:
            # `fg`, or `bg`: it goes to the child's whole group.
            terminal.resume(self.tty, self.programs[0].child.pid)
            return None
        if self.settings.signal_map.get(signum) == REOPEN:
            self.safely(lambda: self.recorder.reopen_log(at))
            return None
        if self.settings.signal_map.get(signum) == RESTART:
            by = f"{name(signum)} from {sender(got.si_pid, got.si_uid, got.si_code, signum)}"
            return m.RollingRestartRequested(signum, by, at)
        if self._pass_on(got, at):
            return None
        self.recorder.run.siginfo = (got.si_pid, got.si_uid, got.si_code)
        return m.SignalReceived(signum, at, self.programs.unhandled(got))

    def _is_nobody_s(self, got: _signal.struct_siginfo, is_stop: bool) -> bool:
        """Return whether a signal is neither for the programs nor a request."""
        if is_our_own(got):
            return True  # the write, or the descriptor, has said so itself
        if is_stop and got.si_signo == SIGWINCH and got.si_code > 0:
            return True  # the window of the terminal has another size
        # A hook that asks for the stop which it is a part of.
        return is_stop and got.si_code <= 0 and process_tree.is_helpers(got.si_pid)

    def _pass_on(self, got: _signal.struct_siginfo, at: float) -> bool:
        """Pass a signal on to all leaders; return False if the policy has to decide about it."""
        signum, leaders = got.si_signo, self.programs.leaders
        if signum not in self._routes:  # thousands of them would be too slow
            self._routes[signum] = forwarding.route(signum, self.policy)
        route = self._routes[signum]
        if route is None:
            return False
        if self.programs.unhandled(got):
            return False  # it is not for all
        if self.policy.managed and signum == SIGTSTP and got.si_code > 0:
            # Ctrl-Z: passed on, it would freeze them.
            terminal.stop_with([program.child.group for program in leaders.values()])
            return True
        if len(leaders) < len(self.programs):
            return False
        for command in route:
            self.do(command)
        self.recorder.forwarded(
            signum, [(one.program, one.signum) for one in route], at, by_kernel=got.si_code > 0
        )
        return True
