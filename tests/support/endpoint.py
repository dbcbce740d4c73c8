"""A child process for tests with an HTTP endpoint whose responses the test sets.

Run as: python -I -S endpoint.py SOCKET [WORD...]

It prints `ready PID`, each request (`GET /drain`), and `15` on SIGTERM.  Lines on stdin control it:

200 {"active": {"jobs": 3}}   the status and body of the next responses
silent                        accept connections, but do not respond
closed                        close the listening socket
exit N                        exit with status N

term=N    exit with status N on SIGTERM; without it, go on
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys

options = dict(word.split("=", 1) for word in sys.argv[2:])
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
state = {"status": "200", "body": json.dumps({"active": {"jobs": 3}}), "silent": False}
kept: list[socket.socket] = []  # connections without a response


def on_term(*_: object) -> None:
    os.write(1, b"15\n")  # print() must not be called again while it is under way
    if "term" in options:
        os._exit(int(options["term"]))


def respond() -> None:
    connection, _ = listener.accept()
    request = b""
    while b"\r\n\r\n" not in request and (part := connection.recv(65536)):
        request += part
    print(request.partition(b"\r\n")[0].decode().rpartition(" ")[0], flush=True)
    if state["silent"]:
        kept.append(connection)
        return
    body = str(state["body"]).encode()
    head = f"HTTP/1.1 {state['status']} x\r\nContent-Length: {len(body)}\r\n"
    with contextlib.suppress(OSError):  # a probe that has given up meanwhile
        connection.sendall(f"{head}Connection: close\r\n\r\n".encode() + body)
    connection.close()


def run_command(line: str) -> None:
    word, _, rest = line.partition(" ")
    if word == "exit":
        os._exit(int(rest))
    if word == "closed":
        listener.close()
    elif word == "silent":
        state["silent"] = True
    else:
        state.update(status=word, body=rest, silent=False)
    print(f"now {line}", flush=True)


signal.signal(signal.SIGTERM, on_term)
print("ready", os.getpid(), flush=True)
commands = b""
while True:
    sources = [0, listener] if listener.fileno() >= 0 else [0]
    for source in select.select(sources, [], [])[0]:
        if source is listener:
            respond()
            continue
        part = os.read(0, 4096)
        if not part:
            os._exit(99)
        commands += part
        while b"\n" in commands:
            line, _, commands = commands.partition(b"\n")
            run_command(line.decode())
