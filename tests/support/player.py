"""A program for tests of several programs: it prints `NAME up PID`, then what happens to it.

Run as: python -I -S player.py NAME [WORD...]

On SIGTERM it prints `NAME TERM`, then `NAME ends`, and exits.  Words change that:

wait         exit only on SIGUSR1, which ends it at any time
stuck        do not exit
on=N         take the signal N for SIGTERM
takes=N      exit N seconds after SIGTERM
exit=N       exit with status N (default 0)
fail=N       exit with status N as soon as it is up, without SIGTERM
needs=PATH   print `NAME early` before `NAME up` if this file does not exist

Before it is up it can start another process, called NAME+ in the output, which exits only on
SIGUSR1:

member       in its process group
session      its child, in a session of its own
orphan       the same, re-parented
stranger     as `session`, with an empty environment
daemon       as `orphan`, with an empty environment
"""

import _signal
import posix
import sys

TERM, USR1 = 15, 10
signals = set(_signal.valid_signals()) - {9, 19}


def say(text: str) -> None:
    posix.write(1, (text + "\n").encode())


def is_up(name: str) -> None:
    """Print that we are up, and notify gracewrap if it listens (ready = "notify")."""
    say(f"{name} up {posix.getpid()}")
    if b"NOTIFY_SOCKET" in posix.environ:
        import _socket

        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        sock.sendto(b"READY=1", posix.environ[b"NOTIFY_SOCKET"].replace(b"@", b"\0", 1))


def play(name: str, on_term: str, status: int, takes: float) -> None:
    """Print signals until one ends us."""
    is_up(name)
    while True:
        got = _signal.sigwaitinfo(signals).si_signo
        if got == TERM:
            say(f"{name} TERM")
            if takes:
                _signal.sigtimedwait({USR1}, takes)
        if got == USR1 or (got == TERM and not on_term):
            say(f"{name} ends")
            posix._exit(status)


def another(name: str, kind: str) -> None:
    """Start another process; return when it is up."""
    reading, writing = posix.pipe()
    if posix.fork() == 0:
        if kind != "member":
            posix.setsid()
        if kind not in ("orphan", "daemon") or posix.fork() == 0:
            posix.set_inheritable(writing, True)
            command = [sys.executable, "-I", "-S", sys.argv[0], name + "+", "wait", f"fd={writing}"]
            kept = (
                {}
                if kind in ("stranger", "daemon")
                else {k: v for k, v in posix.environ.items() if k != b"NOTIFY_SOCKET"}
            )
            posix.execve(command[0], command, kept)
        posix._exit(0)
    posix.close(writing)
    posix.read(reading, 1)  # end of file when it has closed its end


name, *words = sys.argv[1:]
options = dict(word.split("=", 1) for word in words if "=" in word)
TERM = int(options.get("on", TERM))
_signal.pthread_sigmask(_signal.SIG_SETMASK, signals)
if "fd" in options:
    posix.close(int(options["fd"]))
if "needs" in options:
    try:
        posix.stat(options["needs"])
    except OSError:
        say(f"{name} early")
for kind in ("member", "session", "orphan", "stranger", "daemon"):
    if kind in words:
        another(name, kind)
if "fail" in options:
    is_up(name)
    posix._exit(int(options["fail"]))
on_term = next((word for word in words if word in ("wait", "stuck")), "")
play(name, on_term, int(options.get("exit", 0)), float(options.get("takes", 0)))
