"""What a job does, in every queue: it notes in Redis that it has begun, takes its time, and notes
that it is done."""

import os
import time

import redis

URL = os.environ.get("REDIS_URL", "redis://127.0.0.1")


def work(n: int | str, ms: int) -> None:
    with redis.Redis.from_url(URL) as notes:
        notes.rpush("begun", n)
        time.sleep(ms / 1000)
        notes.rpush("done", n)
