"""A worker with three jobs and a page that says so: {"active": {"jobs": 3}}.  A line on stdin ends
one; it never exits."""

import json
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    active = 3

    def do_GET(self):
        body = json.dumps({"active": {"jobs": self.active}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
signal.signal(signal.SIGTERM, lambda *_: print("SIGTERM", flush=True))
print("ready", flush=True)
for _ in sys.stdin:
    Handler.active -= 1
    print(f"done, {Handler.active} left", flush=True)
threading.Event().wait()
