"""The instance that is stopped: it is started, waited for, asked to stop, and looked at
afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import gracewrap
from gracewrap.config.printable import printable
from gracewrap.drill import http_load, new_children
from gracewrap.drill.model import Unready
from gracewrap.linux import process_tree, signal_and_kill
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Set

    from gracewrap.drill.model import Asked

LAST_LINES = 12  # of what it wrote, when it does not come up
POLL = 0.05
TWINS = {"bare": (), "tini": ("tini", "--"), "dumb-init": ("dumb-init", "--")}
NOT_YET = (408, 425, 429)  # 4xx of one that may answer otherwise soon
ENDS = 5.0  # seconds for what is killed to be gone


class Instance:
    """A command under gracewrap, or under a twin; {port} in it is *port*.

    Args:
        asked: What to start.
        who: "gracewrap" or a twin.
        port: A free port, for {port} and the variable PORT.
    """

    def __init__(self, asked: Asked, who: str, port: int) -> None:
        self._asked, self._who, self._port = asked, who, port
        self._dir = tempfile.TemporaryDirectory(prefix="gracewrap-drill-")
        self._output = Path(self._dir.name) / "output"
        self._output.touch()
        self._report = Path(self._dir.name) / "report.json"
        self._children = new_children.known()
        self.urls = tuple(self.filled(url) for url in asked.urls)
        self.health = asked.health or f"127.0.0.1:{free_port()}"
        self.process: asyncio.subprocess.Process | None = None

    def _command(self) -> list[str]:
        words = [self.filled(word) for word in self._asked.command]
        if self._who != "gracewrap":
            return [*TWINS[self._who], *words]
        main = str(Path(gracewrap.__file__).with_name("__main__.py"))
        options = [self.filled(word) for word in self._asked.options]
        return [sys.executable, main, *options, *(["--", *words] if words else [])]

    def _environment(self) -> dict[str, str]:
        found = self.environment
        if self._who == "gracewrap":
            found["GRACEWRAP_REPORT_FILE"] = str(self._report)
            if not self._asked.health:
                found["GRACEWRAP_HEALTH_LISTEN"] = self.health
        return found

    @property
    def environment(self) -> dict[str, str]:
        """The environment of what loads it."""
        return {**os.environ, **({"PORT": str(self._port)} if self._port else {})}

    def filled(self, text: str) -> str:
        """Return a text with its port in the place of {port}."""
        return text.replace("{port}", str(self._port))

    async def start(self, is_next: bool = False) -> None:
        """Start it, and wait until its URLs answer.  Raises Unready.

        Args:
            is_next: The balancer decides when it is up, as for any later instance: by readiness,
                which gracewrap answers; of a twin it knows the URLs only.
        """
        for url in self.urls:
            if accepts(url):
                raise Unready(f"cannot start: something else answers at {_place(url)}; stop it, or "
                              "write {port} in the command and the URL for a free one")  # fmt: skip
        with self._output.open("wb") as output:
            try:
                self.process = await asyncio.create_subprocess_exec(
                    *self._command(),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=asyncio.subprocess.STDOUT,
                    env=self._environment(),
                    start_new_session=True,
                )
            except OSError as error:
                raise Unready(f"cannot run {self._command()[0]}: {error.strerror}") from None
        until = time.monotonic() + self._asked.ready_timeout
        if is_next and self._who == "gracewrap" and self._asked.balancer.kind == "readiness":
            await self._says_ready(until)
            return
        for url in self.urls:
            await self.answers(url, until)

    async def _says_ready(self, until: float) -> None:
        # The load is being sent meanwhile: on a slow machine an answer within a second is rare.
        while not await self.is_ready(min(10.0, self._asked.request_timeout)):
            self.must_live("before it was ready")
            if time.monotonic() > until:
                raise Unready(
                    f"the next instance was not ready within {self._asked.ready_timeout:g} s: "
                    f"/readyz did not answer 200 (longer: --ready-timeout){self.last_lines()}"
                )
            await asyncio.sleep(POLL)

    async def answers(self, url: str, until: float) -> None:
        """Wait until a URL answers, until a time of the monotonic clock.  Raises Unready."""
        found, accepted, since = 0, False, 0.0
        while (left := until - time.monotonic()) > 0:
            self.must_live(f"before {url} answered")
            # A URL may be as slow as a request may be.
            patience = min(left, self._asked.request_timeout)
            accepted = accepts(url)
            status = await http_load.status(url, patience, self._asked) if accepted else 0
            if 200 <= status < 400:
                return
            found = status or found
            # It is up, and says no: most routes are there from the start.
            no = 400 <= status < 500 and status not in NOT_YET
            since = (since or time.monotonic()) if no else 0.0
            if no and time.monotonic() - since >= self._asked.refused_timeout:
                break
            await asyncio.sleep(POLL)
        limit = f"{self._asked.ready_timeout:g} s"
        if found:
            raise Unready(
                f"{url} answers {found}; is the URL right? (if it needs longer: --ready-timeout)"
            )
        if accepted:
            raise Unready(f"{_place(url)} accepts connections, but {url} got no answer within "
                          f"{limit}; is it the port that speaks {urlsplit(url).scheme}? (longer: "
                          f"--ready-timeout){self.last_lines()}")  # fmt: skip
        raise Unready(f"nobody accepted connections at {_place(url)} within {limit}; is it the "
                      f"right port? (longer: --ready-timeout){self.last_lines()}")  # fmt: skip

    def must_live(self, when: str) -> None:
        """Raise Unready if it has ended; *when* says how far it should have come."""
        if self.process is not None and self.process.returncode is not None:
            raise Unready(f"it exited with {self.process.returncode} {when}{self.last_lines()}")

    async def works(self, is_done: Callable[[], Awaitable[bool]]) -> None:
        """Wait until its first job is done.  Raises Unready."""
        until = time.monotonic() + self._asked.ready_timeout
        while not await is_done():
            self.must_live("before the first job was done")
            if time.monotonic() > until:
                raise Unready(
                    f"the first job was not done within {self._asked.ready_timeout:g} s; does it "
                    "work on the queue of --job-command, and does its `ask` print the ID? (longer: "
                    f"--ready-timeout){self.last_lines()}"
                )
            await asyncio.sleep(5 * POLL)

    def last_lines(self) -> str:
        """Return the last lines that it wrote, to go after a sentence."""
        text = self._output.read_bytes()[-8000:].decode(errors="replace")
        lines = text.splitlines()[-LAST_LINES:]
        return "".join(f"\n    {line}" for line in lines) if lines else "; it wrote nothing"

    async def is_ready(self, patience: float = 1.0) -> bool:
        """Return whether a balancer would find it ready: gracewrap's /readyz, else its first
        URL.

        Args:
            patience: Seconds for the answer; by default those of a kubelet.
        """
        if self._who == "gracewrap":
            return await http_load.status(f"http://{self.health}/readyz", patience) == 200
        patience = self._asked.request_timeout
        return 200 <= await http_load.status(self.urls[0], patience, self._asked) < 500

    def stop(self) -> None:
        """Send the stop request."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)

    async def ended(self, seconds: float) -> int | None:
        """Return its exit status; None: it had to be killed after this time."""
        assert self.process is not None
        try:
            status = await asyncio.wait_for(self.process.wait(), seconds)
        except TimeoutError:
            return None
        return status if status >= 0 else 128 - status

    def leftovers(self, beside: Instance | None, helpers: Set[int]) -> tuple[str, ...]:
        """Return what of it is still alive: orphans are ours, since we are their subreaper.

        Args:
            beside: The next generation, which is not meant.
            helpers: The pids of what loads it.
        """
        leaders = {one.process.pid for one in (self, beside) if one and one.process}
        new = new_children.since(self._children) - leaders - helpers
        found = process_tree.descendants(roots=new)
        return tuple(f"{printable(one.name)} (pid {one.pid})" for one in found)

    def taken_ports(self) -> tuple[int, ...]:
        """Return the ports of its URLs where somebody still answers."""
        return tuple(urlsplit(url).port or 80 for url in self.urls if accepts(url))

    def report(self) -> Mapping[str, object] | None:
        """Return gracewrap's own report of the stop."""
        try:
            found = json.loads(self._report.read_bytes())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    async def clean(self) -> None:
        """Leave nothing of it behind, whatever has happened."""
        process = self.process
        if process is not None and process.returncode is None:
            signal_and_kill.kill_all(None, False, lambda until: process_tree.descendants(
                until, [process.pid]))  # fmt: skip
            try:
                await asyncio.wait_for(process.wait(), ENDS)
            except TimeoutError:
                pass
        new_children.end(self._children)
        self._dir.cleanup()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def accepts(url: str) -> bool:
    """Return whether anybody accepts connections where a URL leads."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname or "localhost", port), 1.0):
            return True
    except OSError:
        return False


def _place(url: str) -> str:
    return urlsplit(url).netloc
