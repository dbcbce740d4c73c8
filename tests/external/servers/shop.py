"""A shop in one process, an HTTP server and a thread or a task that works on jobs from Redis: for
gunicorn (shop:wsgi, with this file as its -c too), uvicorn and hypercorn (shop:asgi), or by itself:
python shop.py PORT HANDLER, where "" has not a line of shutdown code.  gunicorn without -c leaves
the jobs to Celery (jobs_celery.py).

POST /orders/N?ms=MS&job=MS answers when the order is in the queue; a job notes in Redis that it has
begun and that it is done.
"""

import asyncio
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import redis

URL = os.environ["REDIS_URL"]
AT_ONCE = 6  # jobs
BY_CELERY = os.environ.get("JOBS") == "celery"
over = threading.Event()


def add(path: str, query: str) -> bytes:
    asked, number = parse_qs(query), path.rpartition("/")[2]
    time.sleep(int(asked["ms"][0]) / 1000)
    if BY_CELERY:
        from jobs_celery import work

        work.delay(int(number), int(asked["job"][0]))
    else:
        with redis.Redis.from_url(URL) as queue:
            queue.rpush("queue", f"{number} {asked['job'][0]}")
    return f"order {number}".encode()


def work() -> None:
    with redis.Redis.from_url(URL, decode_responses=True) as queue:
        while not over.is_set():
            if found := queue.blpop(["queue"], 0.2):
                number, ms = found[1].split()
                queue.rpush("begun", number)
                time.sleep(int(ms) / 1000)
                queue.rpush("done", number)


def begin() -> list[threading.Thread]:
    threads = [threading.Thread(target=work) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    return threads


# --- gunicorn ------------------------------------------------------------------------------------


def post_worker_init(worker):
    worker.jobs = begin()


def worker_exit(server, worker):
    over.set()
    for thread in worker.jobs:
        thread.join()


def wsgi(environ, start_response):
    answer = add(environ["PATH_INFO"], environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]


# --- uvicorn, hypercorn --------------------------------------------------------------------------


async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        threads = begin()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        over.set()
        await asyncio.to_thread(lambda: [thread.join() for thread in threads])
        await send({"type": "lifespan.shutdown.complete"})
        return
    answer = await asyncio.to_thread(add, scope["path"], scope["query_string"].decode())
    headers = [(b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


# --- by itself -----------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        path, _, query = self.path.partition("?")
        answer = add(path, query)
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        if over.is_set():
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = False  # what is idle holds the exit, as it does in server.close() of Node.js
    request_queue_size = 1000


def stop(*_: object) -> None:
    over.set()
    threading.Thread(target=server.shutdown).start()


if __name__ == "__main__":
    server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
    if sys.argv[2]:
        signal.signal(signal.SIGTERM, stop)
    begin()
    with server:
        server.serve_forever()
