"""A Celery application."""

import jobs
from celery import Celery

app = Celery(broker=jobs.URL)
app.conf.worker_prefetch_multiplier = 2
app.conf.broker_connection_retry_on_startup = True


@app.task
def work(n: int | str, ms: int) -> None:
    jobs.work(n, ms)
