"""python -m benchmarks.programs [NUMBER...]: what several programs cost, beside a shell loop and
supervisord; prints JSON.

Start: from the supervisor's spawn until the last program has said that it runs.  Each program is
the same small C program.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.peers import GRACEWRAP, SUPERVISORD, build_child, copy_package
from benchmarks.process import ENVIRONMENT, PATIENCE, Failed
from benchmarks.table import summary

NUMBERS = (1, 10, 50, 200)
ROUNDS = 7
SETTLED = 12.0  # seconds after the start, when what looks after it has had its last look
# between two looks at who has started: who is woken by each takes a CPU away from those that start
LOOK = 0.002
REST = 5.0  # seconds in which wakeups are counted
SHELL = "shell loop"
LOOP = 'i=0; while [ $i -lt $2 ]; do "$0" wait "$1" & i=$((i+1)); done; trap "exit 0" TERM; wait'


def main() -> int:
    """Measure, print; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.programs", description=__doc__)
    parser.add_argument("numbers", type=int, nargs="*", default=NUMBERS, help="how many programs")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument(
        "--dynamic",
        action="store_true",
        help="programs that load the C library, as most do; they start later",
    )
    parser.add_argument(
        "--python",
        default=os.path.realpath(sys.executable),
        help="the interpreter that runs gracewrap",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gracewrap-bench-") as folder:
        child = build_child(Path(folder), static=not options.dynamic)
        gracewrap = [
            options.python,
            "-I",
            "-S",
            str(copy_package(Path(folder) / "lean", options.python) / "__main__.py"),
        ]
        results = [
            measure(Path(folder), child, gracewrap, number, options.rounds)
            for number in options.numbers
        ]
    print(json.dumps(results, indent=1))
    return 0


def measure(
    folder: Path, child: str, gracewrap: list[str], number: int, rounds: int
) -> dict[str, object]:
    """Return the costs of so many programs, of each peer; the rounds of the peers take turns."""
    peers: dict[str, Callable[[Path], list[str]]] = {
        GRACEWRAP: lambda out: [*gracewrap, "--config", write_toml(out, child, number)],
        SHELL: lambda out: ["sh", "-c", LOOP, child, str(out), str(number)],
    }
    if supervisord := shutil.which("supervisord"):
        peers[SUPERVISORD] = lambda out: [supervisord, "-c", write_conf(out, child, number)]
    found: dict[str, dict[str, list[float]]] = {peer: {} for peer in peers}
    for turn in range(rounds):
        for peer, argv in peers.items():
            last = turn == rounds - 1 and peer != SHELL
            for series, value in once(folder / f"out{number}", argv, number, last).items():
                found[peer].setdefault(series, []).append(value)
    told = {
        peer: {name: summary(values) for name, values in series.items()}
        for peer, series in found.items()
    }
    ratio = told[GRACEWRAP]["start_ms"]["p50"] / told[SHELL]["start_ms"]["p50"]
    return {"programs": number, "start_beside_shell": round(ratio, 2), **told}


def write_toml(out: Path, child: str, number: int) -> str:
    """Write a file for gracewrap and return its path."""
    path = out.with_suffix(".toml")
    programs = (f'[programs.p{i}]\ncommand = ["{child}", "wait", "{out}"]\n' for i in range(number))
    path.write_text('[control]\nsocket = "off"\n' + "".join(programs))
    return str(path)


def write_conf(out: Path, child: str, number: int) -> str:
    """Write a file for supervisord and return its path."""
    path = out.with_suffix(".conf")
    head = (
        "[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\n"
        f"pidfile={path}.pid\nminfds=64\n"
    )
    each = (
        f"command={child} wait "
        f"{out}\nstartsecs=0\nautorestart=false\nstdout_logfile=NONE\nstderr_logfile=NONE\n"
    )
    path.write_text(head + "".join(f"[program:p{i}]\n{each}" for i in range(number)))
    return str(path)


def once(
    out: Path, argv: Callable[[Path], list[str]], number: int, rests: bool
) -> dict[str, float]:
    """Start them all, look, stop them; return what was measured."""
    os.mkfifo(out)
    fifo = os.open(out, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    words = argv(out)
    begun = time.monotonic()
    pid = os.posix_spawnp(
        words[0], words, ENVIRONMENT, file_actions=null, setsid=True, setsigmask=[]
    )
    try:
        wait_for(fifo, number)
        found = {"start_ms": (time.monotonic() - begun) * 1000}
        if rests:
            time.sleep(SETTLED)
            before = switches(pid)
            time.sleep(REST)
            found["wakeups_in_5_s"] = switches(pid) - before
            found["pss_kib"] = field(f"/proc/{pid}/smaps_rollup", "Pss")
        asked = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        found["stop_ms"] = (time.monotonic() - asked) * 1000
        return found
    finally:
        os.close(fifo)
        out.unlink()


def wait_for(fifo: int, number: int) -> None:
    """Wait until so many programs have said "ready PID".

    Raises:
        Failed: If they do not.
    """
    said, until = b"", time.monotonic() + PATIENCE
    while said.count(b"\n") < number:
        if time.monotonic() > until:
            raise Failed(f"only {said.count(bytes([10]))} of {number} programs have started")
        time.sleep(LOOK)
        try:
            said += os.read(fifo, 65536)
        except BlockingIOError:
            pass


def switches(pid: int) -> int:
    """Return how often a process has given up a CPU, or had it taken away."""
    path = f"/proc/{pid}/status"
    return field(path, "voluntary_ctxt_switches") + field(path, "nonvoluntary_ctxt_switches")


def field(path: str, name: str) -> int:
    """Return a number of a file of /proc."""
    line = next(line for line in Path(path).read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])


if __name__ == "__main__":
    sys.exit(main())
