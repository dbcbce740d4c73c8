"""python -m benchmarks.programs [NUMBER...]: measures the cost of several programs; prints JSON.

The peers are a shell loop and supervisord.  Start: from the spawn of the supervisor until the last
program has reported that it runs.  Each program is the same small C program.
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

from benchmarks import peers
from benchmarks.peers import GRACEWRAP, SUPERVISORD, build_child
from benchmarks.process import ENVIRONMENT, PATIENCE, Failed
from benchmarks.table import summary

NUMBERS = (1, 10, 50, 200)
ROUNDS = 7
SETTLED = 12.0  # seconds after the start, when gracewrap has done everything that it does late
# Seconds between two checks whether all programs run: a process that each start wakes would take a
# CPU away from the programs.
POLL_INTERVAL = 0.002
REST = 5.0  # seconds of counting wakeups
SHELL = "shell loop"
LOOP = 'i=0; while [ $i -lt $2 ]; do "$0" wait "$1" & i=$((i+1)); done; trap "exit 0" TERM; wait'


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.programs", description=__doc__)
    parser.add_argument("numbers", type=int, nargs="*", default=NUMBERS, help="how many programs")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument(
        "--dynamic",
        action="store_true",
        help="link the programs dynamically, as usual; they start later",
    )
    peers.add_options(parser)
    options = parser.parse_args()
    gracewrap = peers.gracewrap_command(options.gracewrap, options.python)
    with tempfile.TemporaryDirectory(prefix="gracewrap-bench-") as folder:
        child = build_child(Path(folder), static=not options.dynamic)
        results = [
            measure(Path(folder), child, gracewrap, number, options.rounds)
            for number in options.numbers
        ]
    how = peers.how(options.gracewrap)
    print(json.dumps({"gracewrap_started_by": how, "results": results}, indent=1))
    return 0


def measure(
    folder: Path, child: str, gracewrap: list[str], number: int, rounds: int
) -> dict[str, object]:
    """Return the costs of *number* programs by peer; the peers take turns."""
    commands: dict[str, Callable[[Path], list[str]]] = {
        GRACEWRAP: lambda out: [*gracewrap, "--config", write_toml(out, child, number)],
        SHELL: lambda out: ["sh", "-c", LOOP, child, str(out), str(number)],
    }
    if supervisord := shutil.which("supervisord"):
        commands[SUPERVISORD] = lambda out: [supervisord, "-c", write_conf(out, child, number)]
    found: dict[str, dict[str, list[float]]] = {peer: {} for peer in commands}
    for turn in range(rounds):
        for peer, argv in commands.items():
            last = turn == rounds - 1 and peer != SHELL
            for series, value in once(folder / f"out{number}", argv, number, last).items():
                found[peer].setdefault(series, []).append(value)
    summaries = {
        peer: {name: summary(values) for name, values in series.items()}
        for peer, series in found.items()
    }
    ratio = summaries[GRACEWRAP]["start_ms"]["p50"] / summaries[SHELL]["start_ms"]["p50"]
    return {"programs": number, "start_beside_shell": round(ratio, 2), **summaries}


def write_toml(out: Path, child: str, number: int) -> str:
    """Write the configuration of gracewrap and return its path."""
    path = out.with_suffix(".toml")
    programs = (f'[programs.p{i}]\ncommand = ["{child}", "wait", "{out}"]\n' for i in range(number))
    path.write_text('[control]\nsocket = "off"\n' + "".join(programs))
    return str(path)


def write_conf(out: Path, child: str, number: int) -> str:
    """Write the configuration of supervisord and return its path."""
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
    """Start the programs, measure, stop them; return the measurements.

    *rests*: also measure memory and wakeups at rest.
    """
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
    """Wait until *number* programs have written "ready PID".

    Raises:
        Failed: If they do not.
    """
    output, until = b"", time.monotonic() + PATIENCE
    while output.count(b"\n") < number:
        if time.monotonic() > until:
            raise Failed(f"only {output.count(bytes([10]))} of {number} programs have started")
        time.sleep(POLL_INTERVAL)
        try:
            output += os.read(fifo, 65536)
        except BlockingIOError:
            pass


def switches(pid: int) -> int:
    """Return the number of context switches of a process, voluntary and not."""
    path = f"/proc/{pid}/status"
    return field(path, "voluntary_ctxt_switches") + field(path, "nonvoluntary_ctxt_switches")


def field(path: str, name: str) -> int:
    """Return a number from a file of /proc."""
    line = next(line for line in Path(path).read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])


if __name__ == "__main__":
    sys.exit(main())
