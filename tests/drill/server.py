"""A server for drills: python server.py PORT MODE [SECONDS].

MODE: drop (exits on SIGTERM with requests in flight), drain (finishes them, then exits), leave
(drains, and leaves a process behind), late (as drain, and takes SECONDS to start if another has
started in its directory), quit (exits before it listens), missing (404).
"""

from __future__ import annotations

import contextlib
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import ClassVar

PORT, MODE = int(sys.argv[1]), sys.argv[2]
SECONDS = float(sys.argv[3]) if len(sys.argv) > 3 else 0.2


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        time.sleep({"missing": 0.0, "late": 0.2}.get(MODE, SECONDS))
        self.send_response(404 if MODE == "missing" else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = MODE == "drop"
    request_queue_size = 100
    connections: ClassVar[list[socket.socket]] = []

    def process_request(self, request, client_address):
        self.connections.append(request)
        super().process_request(request, client_address)

    def finish(self):
        """Answer what is in flight; idle connections read their end."""
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RD)
        self.server_close()  # joins the threads


def main():
    if MODE == "quit":
        print("no such database", flush=True)
        sys.exit(3)
    if MODE == "late" and os.path.exists("started"):
        time.sleep(SECONDS)
    elif MODE == "late":
        with open("started", "x"):
            pass
    server = Server(("127.0.0.1", PORT), Handler)

    def stop(_signum, _frame):
        if MODE == "drop":
            os._exit(0)
        if MODE == "leave":
            subprocess.Popen(["sleep", "60"], start_new_session=True)
            os._exit(0)
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    server.serve_forever()
    server.finish()
    os._exit(0)


main()
