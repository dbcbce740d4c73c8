"""Starts nginx and other real servers, with the timing of a load balancer in front of them."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from load_balancer import free_ports
from processes import BOUND, ROOT, require

SERVERS = ROOT / "tests" / "external" / "servers"


POLL = 0.1  # seconds between two health checks of the load balancer
PROPAGATION = 2 * POLL
SLACK = 2.0  # seconds for a loaded machine; the README has figures of an idle one

NGINX = """
daemon off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 2;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location / {{ root {folder}; }}
    location {location} {{ proxy_pass http://127.0.0.1:{upstream}; }}
  }}
}}
"""


def nginx_command(folder: Path, port: int, upstream: int, location: str = "/slow") -> list[str]:
    """Write a configuration that has no settings about stopping; return the command."""
    require(shutil.which("nginx"), "nginx")
    # Otherwise the workers would run as a user who may not read *folder*.
    user = "user root;" if os.geteuid() == 0 else ""
    file = folder / "nginx.conf"
    words = {"folder": folder, "port": port, "upstream": upstream, "location": location}
    file.write_text(NGINX.format(**words, user=user))
    return ["nginx", "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(file)]


@contextlib.contextmanager
def upstream() -> Iterator[int]:
    """Run a server behind nginx that is never restarted; yields its port."""
    [port] = free_ports(1)
    process = subprocess.Popen(
        [sys.executable, str(SERVERS / "plain.py"), str(port)], stderr=subprocess.DEVNULL
    )
    try:
        yield port
    finally:
        process.kill()
        process.wait(BOUND)


HAPROXY = """
global
  stats socket {socket}
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout check 2s
  option redispatch
frontend web
  bind 127.0.0.1:{port}
  default_backend instances
backend instances
  balance leastconn
  option httpchk GET /readyz
{servers}
"""


class Haproxy(NamedTuple):
    """One that runs."""

    port: int
    stats: Path

    def up(self) -> int:
        """Return how many instances it has found ready; before it has asked, it takes all to be."""
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(BOUND)
            try:
                asked.connect(str(self.stats))
            except OSError:  # it has not begun to listen
                return 0
            asked.sendall(b"show stat\n")
            with asked.makefile(newline="") as said:
                servers = [row for row in csv.DictReader(said) if row["svname"].startswith("i")]
        return sum((row["status"], row["check_status"]) == ("UP", "L7OK") for row in servers)


@contextlib.contextmanager
def haproxy_before(instances: Iterable[tuple[int, int]], folder: Path) -> Iterator[Haproxy]:
    """Run HAProxy in front of instances, each a port and that of its /readyz."""
    require(shutil.which("haproxy"), "haproxy")
    [port] = free_ports(1)
    check = f"inter {int(POLL * 1000)}ms fall 1 rise 1"
    servers = "\n".join(
        f"  server i{port} 127.0.0.1:{port} check port {health} {check}"
        for port, health in instances
    )
    file = folder / "haproxy.cfg"
    file.write_text(HAPROXY.format(port=port, servers=servers, socket=folder / "haproxy.sock"))
    with (folder / "haproxy.log").open("wb") as log:
        words = ["haproxy", "-db", "-f", str(file)]
        with subprocess.Popen(words, stdout=log, stderr=log) as process:
            try:
                yield Haproxy(port, folder / "haproxy.sock")
            finally:
                process.kill()
