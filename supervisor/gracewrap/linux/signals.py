"""Signal numbers and names, without the signal module, whose enums take 7 ms to import; and how the
next signal is fetched."""

from __future__ import annotations

import _signal
import posix
import time

# All that can be caught; SIGKILL and SIGSTOP cannot (signal(7)).
BLOCKABLE = frozenset(_signal.valid_signals()) - {9, 19}

SIGHUP, SIGINT, SIGQUIT, SIGABRT, SIGKILL, SIGPIPE = 1, 2, 3, 6, 9, 13
SIGTERM, SIGCHLD, SIGXCPU, SIGXFSZ = 15, 17, 24, 25
SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGWINCH, SIGIO = 18, 19, 20, 21, 22, 28, 29
RTMIN, RTMAX = int(_signal.SIGRTMIN), int(_signal.SIGRTMAX)

# By themselves they end nothing: CHLD, CONT, TSTP, TTIN, TTOU, URG, WINCH.
HARMLESS = frozenset((17, 18, 20, 21, 22, 23, 28))
# Several names can share a number (IOT is ABRT, POLL is IO); the first is the one we show.
_ALIASES = {"IOT": 6, "POLL": 29, "CLD": 17}
NUMBERS: dict[str, int] = {
    name[3:]: int(getattr(_signal, name))
    for name in dir(_signal)
    if name.startswith("SIG")
    and name[3].isalpha()
    and name not in ("SIGRTMIN", "SIGRTMAX", "SIGIOT", "SIGPOLL", "SIGCLD")
}
NAMES = {number: name for name, number in NUMBERS.items()}


# Two that are equal: to compare them takes much of the stack.
_DEEP: tuple[object, ...] = ()
_ALIKE: tuple[object, ...] = ()
for _ in range(100):
    _DEEP, _ALIKE = (_DEEP,), (_ALIKE,)
_CODES = frozenset((*range(-64, 1), 128))  # si_code of sigaction(2): by a process, by the kernel
_WITH_CODES = frozenset((4, 5, 7, 8, 11, SIGCHLD, SIGIO, 31))  # ILL, TRAP, BUS, FPE, SEGV, SYS


def fetch(seconds: float) -> _signal.struct_siginfo | None:
    """Return the next signal, all being blocked, or None if none comes in so many seconds.

    A pause (SIGSTOP, docker pause) interrupts the wait.  If it lasts until after its end, Python
    returns what happens to be on its stack: anything, or a signal that it has returned before
    (signal_sigtimedwait_impl() of Modules/signalmodule.c leaves its loop with nothing fetched).
    So what is there is overwritten before, and what comes late is looked at.
    """
    if seconds <= 0:
        return _signal.sigtimedwait(BLOCKABLE, 0)
    _ = _DEEP == _ALIKE
    until = time.monotonic() + seconds
    got = _signal.sigtimedwait(BLOCKABLE, seconds)
    if got is not None and time.monotonic() >= until and not _can_be(got):
        return _signal.sigtimedwait(BLOCKABLE, 0)
    return got


def _can_be(got: _signal.struct_siginfo) -> bool:
    """Return whether there can be such a signal."""
    known = got.si_code in _CODES or (0 < got.si_code < 128 and got.si_signo in _WITH_CODES)
    return known and got.si_signo in BLOCKABLE and got.si_errno == 0 and got.si_pid >= 0


def is_our_own(got: _signal.struct_siginfo) -> bool:
    """Return whether a signal is about what we do ourselves, and not to be forwarded.

    That is the SIGPIPE or SIGXFSZ of our own write, which is pending although it is ignored,
    because it is blocked; the kernel's SIGIO for a descriptor that we watch (si_code is above
    0: no process can send that); and its SIGXCPU for CPU time that we have used (RLIMIT_CPU).
    """
    if got.si_signo in (SIGIO, SIGXCPU):
        return got.si_code > 0
    return got.si_signo in (SIGPIPE, SIGXFSZ) and got.si_code == 0 and got.si_pid == posix.getpid()


def number(text: str) -> int:
    """Return the number of a signal written as TERM, SIGTERM, 15, RTMIN+2 or RTMAX-1, in any case.

    Raises:
        ValueError: If there is no such signal.
    """
    word = text.strip().upper().removeprefix("SIG")
    found = NUMBERS.get(word) or _ALIASES.get(word)
    if found is None and word.isascii() and word.isdigit():
        found = int(word)
    if found is None and word.startswith("RT"):
        found = _realtime(word)
    if found is None or found not in BLOCKABLE | {9, 19}:
        raise ValueError(f"no such signal: {text}")
    return found


def _realtime(word: str) -> int | None:
    base, sign, rest = word[:5], word[5:6], word[6:]
    if word in ("RTMIN", "RTMAX"):
        sign, rest = "+-"[word == "RTMAX"], "0"
    if not (rest.isascii() and rest.isdigit()) or base + sign not in ("RTMIN+", "RTMAX-"):
        return None
    found = RTMIN + int(rest) if base == "RTMIN" else RTMAX - int(rest)
    return found if RTMIN <= found <= RTMAX else None


def name(signum: int) -> str:
    """Return the name of a signal as we show it: SIGTERM, SIGRTMIN+2."""
    if signum in NAMES:
        return f"SIG{NAMES[signum]}"
    if RTMIN <= signum <= RTMAX:
        return f"SIGRTMIN+{signum - RTMIN}" if signum > RTMIN else "SIGRTMIN"
    return f"signal {signum}"
