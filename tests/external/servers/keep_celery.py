"""Keeps the tasks of jobs_celery for a drill: keep_celery.py MS enqueue ID | ask."""

import sys

import jobs
import redis
from jobs_celery import work

if sys.argv[2] == "enqueue":
    work.delay(sys.argv[3], int(sys.argv[1]))
else:
    with redis.Redis.from_url(jobs.URL) as notes:
        print(*(one.decode() for one in notes.lrange("done", 0, -1)), sep="\n")
