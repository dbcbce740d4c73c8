"""A child process for tests that prints `ready PID`, then the number of each signal it receives.

Run as: python -I -S talker.py [WORD...]

ignore=N     ignore signal N
exit=N       exit with status N on SIGTERM (default 0; -1: do not exit)
fork         first start a straggler: a child in our process group that prints `straggler PID`, then
             its signals, and ignores what we ignore
session      the same, but the straggler is in a session of its own
leave        with a straggler: exit at once with status 7
orphans=N    first create N orphans that exit
"""

import _signal
import posix
import sys

words = sys.argv[1:]
options = dict(word.split("=", 1) for word in words if "=" in word)
signals = set(_signal.valid_signals()) - {9, 19}


def say(text: str) -> None:
    posix.write(1, (text + "\n").encode())


def talk(name: str) -> None:
    say(f"{name} {posix.getpid()}")
    while True:
        got = _signal.sigwaitinfo(signals)
        if got.si_signo == 17:
            continue
        say(f"{'' if name == 'ready' else name + ' '}{got.si_signo}")
        if got.si_signo == 15 and int(options.get("exit", 0)) >= 0:
            posix._exit(int(options.get("exit", 0)))


for signum in options.get("ignore", "").split(","):
    if signum:
        _signal.signal(int(signum), _signal.SIG_IGN)
        signals.discard(int(signum))

# Before a straggler is born: the leader may leave, and the straggler be told, at once.
_signal.pthread_sigmask(_signal.SIG_SETMASK, signals)

for _ in range(int(options.get("orphans", 0))):
    middle = posix.fork()
    if middle == 0:
        if posix.fork() == 0:
            posix._exit(0)
        posix._exit(0)
    posix.waitpid(middle, 0)

if "fork" in words or "session" in words:
    reading, writing = posix.pipe()
    if posix.fork() == 0:
        if "session" in words:
            posix.setsid()
        posix.close(reading)
        posix.close(writing)
        talk("straggler")
    posix.close(writing)
    posix.read(reading, 1)  # end of file once the straggler has made its session
    if "leave" in words:
        posix._exit(7)

talk("ready")
