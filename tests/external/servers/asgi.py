"""An ASGI application for uvicorn and hypercorn: /slow?n=N&ms=MS&size=SIZE answers after MS
milliseconds."""

import asyncio
from urllib.parse import parse_qsl


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    length, more = 0, True
    while more:
        message = await receive()
        length, more = length + len(message.get("body", b"")), message.get("more_body", False)
    asked = {key: int(value) for key, value in parse_qsl(scope["query_string"].decode())}
    await asyncio.sleep(asked.get("ms", 0) / 1000)
    answer = b"%d:%d:" % (asked.get("n", 0), length) + b"x" * asked.get("size", 0)
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
