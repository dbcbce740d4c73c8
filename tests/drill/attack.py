"""A load for --load-command: python attack.py URL RATE SECONDS prints a line for each request, as
vegeta does, with its words for what goes wrong."""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from datetime import UTC, datetime
from urllib.parse import urlsplit

URL, RATE, SECONDS = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
PARTS = urlsplit(URL)


def one() -> None:
    at, began = datetime.now(UTC), time.monotonic()
    code, error = 0, ""
    connection = http.client.HTTPConnection(PARTS.hostname, PARTS.port, timeout=20)
    try:
        connection.request("GET", PARTS.path)
        with connection.getresponse() as answer:
            answer.read()
            code = answer.status
    except ConnectionRefusedError:
        error = f'Get "{URL}": dial tcp {PARTS.netloc}: connect: connection refused'
    except (OSError, http.client.HTTPException):
        error = f'Get "{URL}": EOF'
    stamp = at.strftime("%Y-%m-%dT%H:%M:%S.%f") + "789Z"  # nine digits, as Go has them
    latency = int(1e9 * (time.monotonic() - began))
    found = {"attack": "", "seq": 0, "code": code, "timestamp": stamp, "latency": latency,
             "error": error, "method": "GET", "url": URL}  # fmt: skip
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


began, tasks = time.monotonic(), []
for n in range(int(RATE * SECONDS)):
    time.sleep(max(0.0, began + n / RATE - time.monotonic()))
    tasks.append(threading.Thread(target=one))
    tasks[-1].start()
