"""A WSGI application for gunicorn and uWSGI: /slow?n=N&ms=MS&size=SIZE answers after MS
milliseconds."""

import time
from urllib.parse import parse_qsl


def application(environ, start_response):
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length) if length else b""
    asked = {key: int(value) for key, value in parse_qsl(environ["QUERY_STRING"])}
    time.sleep(asked.get("ms", 0) / 1000)
    answer = b"%d:%d:" % (asked.get("n", 0), len(body)) + b"x" * asked.get("size", 0)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]
