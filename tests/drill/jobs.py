"""A queue in a directory, and its worker, for drills.

python jobs.py DIR enqueue ID | ask, as --job-command takes them;
python jobs.py DIR work MODE [SECONDS]: drop (SIGTERM ends it, and the job it has), drain (finishes
its job, then exits), repeat (finishes it, and has put it back into the queue), idle (does nothing).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

PLACE, VERB, *WORDS = Path(sys.argv[1]), *sys.argv[2:]
QUEUE, TAKEN, DONE = PLACE / "queue", PLACE / "taken", PLACE / "done"


def work(mode: str, seconds: float) -> None:
    """Take one job after the other.  Who is to lose or repeat a job when it is stopped waits for
    one, if it has none."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    while not asked or mode in ("drop", "repeat"):
        time.sleep(0.02)
        jobs = sorted(QUEUE.iterdir(), key=lambda one: one.stat().st_mtime_ns)
        if not jobs or mode == "idle":
            continue
        os.rename(jobs[0], TAKEN / jobs[0].name)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.02)
            if asked and mode == "drop":
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                os.kill(os.getpid(), signal.SIGTERM)
        with DONE.open("a") as done:
            done.write(f"{jobs[0].name}\n")
        if asked:
            if mode == "repeat":
                os.rename(TAKEN / jobs[0].name, jobs[0])
            return


for one in (QUEUE, TAKEN):
    one.mkdir(exist_ok=True)
if VERB == "enqueue":
    (QUEUE / WORDS[0]).touch()
elif VERB == "ask":
    print(DONE.read_text() if DONE.exists() else "", end="")
else:
    work(WORDS[0], float(WORDS[1]) if len(WORDS) > 1 else 0.3)
