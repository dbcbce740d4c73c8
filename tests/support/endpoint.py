"""A command with an HTTP endpoint that says what the test wants.  Run as: python -I -S endpoint.py
SOCKET [WORD...]

Prints `ready PID`, then `15` when it gets SIGTERM, and what it is asked (`GET /drain`).  A line on
stdin sets the answer:
`200 {"active": {"jobs": 3}}`; `silent`: accept and say nothing; `closed`: listen no more; `exit N`:
exit.

term=N    exit with status N on SIGTERM; else go on
"""

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
kept: list[socket.socket] = []  # those that get no answer


def on_term(*_: object) -> None:
    print("15", flush=True)
    if "term" in options:
        os._exit(int(options["term"]))


def answer() -> None:
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
    connection.sendall(f"{head}Connection: close\r\n\r\n".encode() + body)
    connection.close()


def obey(line: str) -> None:
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
            answer()
            continue
        part = os.read(0, 4096)
        if not part:
            os._exit(99)
        commands += part
        while b"\n" in commands:
            line, _, commands = commands.partition(b"\n")
            obey(line.decode())
