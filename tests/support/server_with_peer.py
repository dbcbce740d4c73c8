"""A server that is connected to somebody else, as one with a database or a queue is.

Run as: python -I -S server_with_peer.py PEER [WORD...]

PEER is a port of 127.0.0.1, the path of a unix socket, or "-".  It prints `ready PORT`, and `15`
on SIGTERM, after which it goes on.  Lines on stdin control it, and each is printed when it is done:

close   close the connection to the peer
burn    use the CPU from now on
rest    no more
done    exit with status 0

unused  do not exchange a byte with the peer at the start
plain   have no handler for SIGTERM
"""

import os
import select
import signal
import socket
import sys

peer, words = sys.argv[1], sys.argv[2:]
listener = socket.create_server(("127.0.0.1", 0))
connection = None
if peer != "-":
    family = socket.AF_INET if peer.isdigit() else socket.AF_UNIX
    connection = socket.socket(family)
    connection.connect(("127.0.0.1", int(peer)) if peer.isdigit() else peer)
    if "unused" not in words:
        connection.sendall(b"?")
        connection.recv(1)
if "plain" not in words:
    signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"15\n"))
print("ready", listener.getsockname()[1], flush=True)
burns = False
while True:
    if not select.select([0], [], [], 0 if burns else None)[0]:
        sum(range(10_000))
        continue
    command = os.read(0, 4096).decode().strip()
    if command == "close" and connection is not None:
        connection.close()
    burns = command == "burn"
    print(command, flush=True)
    if command in ("done", ""):
        os._exit(0)
