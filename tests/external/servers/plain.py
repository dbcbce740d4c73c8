"""A Python HTTP server without a line of shutdown code: /slow?n=N&ms=MS&size=SIZE answers after MS
milliseconds."""

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = {key: int(value) for key, value in parse_qsl(urlsplit(self.path).query)}
        time.sleep(asked.get("ms", 0) / 1000)
        text = b"%d:%d:" % (asked.get("n", 0), len(body)) + b"x" * asked.get("size", 0)
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        self.answer()

    def do_POST(self):
        self.answer()

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 1000


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
