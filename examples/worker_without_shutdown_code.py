"""A worker without shutdown code: its jobs take 0.8 s each, and SIGTERM ends it at once.

Its queue is a directory, JOBS. Without a word it works; with one:

enqueue NAME  puts a job into the queue
ask           prints the names of those that are done
pause         lets it take no more jobs, until it is started again
busy          prints how many it is working on
"""

import os
import sys
import threading
import time
from pathlib import Path

QUEUE, TAKEN, DONE, PAUSED = (
    Path(os.environ["JOBS"], name) for name in ("queue", "taken", "done", "paused")
)


def work() -> None:
    """Take one job after the other."""
    while True:
        time.sleep(0.02)
        for job in [] if PAUSED.exists() else sorted(QUEUE.iterdir()):
            try:
                taken = job.rename(TAKEN / job.name)
            except FileNotFoundError:  # another thread was faster
                continue
            time.sleep(0.8)
            taken.rename(DONE / job.name)
            break


def main(verb: str = "", name: str = "") -> None:
    """Do what the words say."""
    for folder in (QUEUE, TAKEN, DONE):
        folder.mkdir(exist_ok=True)
    match verb:
        case "enqueue":
            (QUEUE / name).touch()
        case "ask":
            print(*(job.name for job in DONE.iterdir()), sep="\n")
        case "pause":
            PAUSED.touch()
        case "busy":
            print(len(list(TAKEN.iterdir())))
        case _:
            PAUSED.unlink(missing_ok=True)
            for _ in range(4):
                threading.Thread(target=work).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
