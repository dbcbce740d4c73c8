"""A Dramatiq application."""

import dramatiq
import jobs
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=jobs.URL))


@dramatiq.actor(max_retries=0)
def work(n: int, ms: int) -> None:
    jobs.work(n, ms)
