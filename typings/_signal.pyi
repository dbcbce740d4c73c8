"""The C half of the signal module, which has no stub; gracewrap/linux/signals.py says why."""

from collections.abc import Callable, Iterable
from types import FrameType

class struct_siginfo:  # noqa: N801
    si_signo: int
    si_code: int
    si_errno: int
    si_pid: int
    si_uid: int
    si_status: int

SIG_DFL: int
SIG_IGN: int
SIG_SETMASK: int
SIGRTMIN: int
SIGRTMAX: int

def signal(
    signalnum: int, handler: int | Callable[[int, FrameType | None], object], /
) -> object: ...
def getsignal(signalnum: int, /) -> object: ...
def valid_signals() -> set[int]: ...
def pthread_sigmask(how: int, mask: Iterable[int], /) -> set[int]: ...
def sigpending() -> set[int]: ...
def sigwaitinfo(sigset: Iterable[int], /) -> struct_siginfo: ...
def sigtimedwait(sigset: Iterable[int], timeout: float, /) -> struct_siginfo | None: ...
def pidfd_send_signal(
    pidfd: int, signalnum: int, siginfo: None = None, flags: int = 0, /
) -> None: ...
