"""A worker that needs two seconds to finish after SIGTERM, and drops its work on a second one."""

import os
import signal
import sys
import time

told: list[float] = []


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())  # print() cannot be interrupted by its own handler


def on_term(*_: object) -> None:
    say("told")
    if told:
        say("dropped")
        sys.exit(1)
    told.append(time.monotonic())


signal.signal(signal.SIGTERM, on_term)
say("up")
while not told or time.monotonic() < told[0] + 2:
    time.sleep(0.001)
say("finished")
