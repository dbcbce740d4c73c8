"""A small HTTP server with a slow answer, and an orderly end on SIGTERM: no new connections,
running requests finish.

GET /            answers at once
GET /slow?s=2    answers after 2 seconds
"""

import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Handler(BaseHTTPRequestHandler):
    """Answers in its own time."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/slow":
            self.log_message("working on %s", self.path)
            time.sleep(float(parse_qs(url.query).get("s", ["2"])[0]))
        body = f"answered by pid {os.getpid()}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        print(f"server: {format % args}", flush=True)


class Server(ThreadingHTTPServer):
    """Waits for the requests in flight when it is closed."""

    daemon_threads = False


def main() -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight."""
    server = Server(("", int(os.environ.get("PORT", "8080"))), Handler)

    def stop(signum: int, _frame: object) -> None:
        print(
            f"server: {signal.Signals(signum).name}: no new requests, finishing what is in flight",
            flush=True,
        )
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print(f"server: listening on port {server.server_address[1]}", flush=True)
    server.serve_forever(0.05)
    server.server_close()


if __name__ == "__main__":
    main()
