"""Waits for a running gracewrap, with a line of progress."""

from __future__ import annotations

import sys
import time

from gracewrap.cli import control_client
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gracewrap.cli.subcommand import Arguments
    from gracewrap.cli.wait_for_programs import Waited
    from gracewrap.server.control_socket import Instance


LOOK = 0.15  # seconds from one look to the next, while waiting
LINE = 1.0  # seconds between two lines of progress, where they cannot be written over


def limit_of(arguments: Arguments, default: float = control_client.WAIT) -> float:
    """Return how long to wait for an answer."""
    return default if arguments.timeout is None else arguments.timeout


def report(instance: Instance, answer: control_client.Answer) -> int:
    """Print the answer, and return 0, or 1 if the request was refused."""
    if answer.status in (200, 202):
        tell(f"gracewrap (pid {instance.pid}): {answer.text()}")
        return 0
    complain(f"refused by pid {instance.pid}: {answer.text()}")
    return 1


def wait(
    peer: control_client.Peer,
    began: float,
    timeout: float | None,
    judge: Callable[[dict[str, Any], float], tuple[int, str] | None],
    what: str,
    part: Waited | None = None,
    end: control_client.End | None = None,
) -> int:
    """Look at the status until *judge* has an exit status and a last word, or nobody is there.

    Args:
        peer: Who is waited for; by *end* it says that it goes.
        began: When the waiting did (monotonic).
        timeout: For how many seconds; None: without a limit.
        judge: Is given a status and the seconds gone.
        what: It is to be: "drained", "gone".
        part: Only these of its programs are waited for.
    """
    from gracewrap.cli.status_view import span

    progress = Progress()
    last: dict[str, Any] = {}
    try:
        while True:
            elapsed = time.monotonic() - began
            left = float("inf") if timeout is None else timeout - elapsed
            peer.timeout = max(0.05, min(control_client.WAIT, left))
            doing, limit = "no answer", ""
            try:
                last = peer.status(processes=False, request="" if part is None else part.request)
                if (verdict := judge(last, elapsed)) is not None:
                    return progress.end(*verdict)
                doing, limit = _standing(last, part)
            except control_client.Gone:
                return progress.end(*_gone(peer, last, elapsed, part))
            except control_client.NoAnswer:
                pass
            if left <= 0:
                return progress.end(1, f"not {what} in {span(timeout or 0.0)}: {doing}")
            said = (doing, f"{span(elapsed, whole=True)} gone", limit)
            progress.show(", ".join(filter(None, said)), doing)
            _pause(end, min(LOOK, left))
    finally:
        progress.leave()


def _pause(end: control_client.End | None, seconds: float) -> None:
    """Wait so long, or until it has said that it goes: it is gone at the next look then."""
    if end is None:
        time.sleep(seconds)
    else:
        end.comes(seconds)


def _standing(last: dict[str, Any], part: Waited | None) -> tuple[str, str]:
    """Return what is waited for, and how long it may still take."""
    from gracewrap.cli import status_view

    if part is not None:
        return part.doing(last), part.left(last)
    return status_view.waiting_for(last), status_view.until_sigkill(last)


def _gone(
    peer: control_client.Peer, last: dict[str, Any], elapsed: float, part: Waited | None
) -> tuple[int, str]:
    """Return exit status and last word about a gracewrap that has ended: what it killed was not
    drained."""
    if part is not None:
        return part.gone(last, elapsed)
    from gracewrap.cli import status_view

    killed = status_view.word(last, "phase") == "killing"
    cut = f"; it was killing what was left: {status_view.waiting_for(last)}" if killed else ""
    text = f"gracewrap (pid {peer.pid}) has gone after {status_view.span(elapsed)}{cut}"
    return int(killed), text


class Progress:
    """What is being waited for: a line that is written over on a terminal; elsewhere a line when it
    has changed."""

    def __init__(self) -> None:
        self.terminal = sys.stdout is not None and sys.stdout.isatty()
        self._said, self._at, self._open = "", 0.0, False

    def show(self, line: str, key: str) -> None:
        """Show *line*; *key* is what of it makes it news."""
        now = time.monotonic()
        if self.terminal:
            from shutil import get_terminal_size

            self._open = True  # before: Ctrl-C may come in the middle
            print(f"\r\x1b[K{line[: max(1, get_terminal_size().columns - 1)]}", end="", flush=True)
        elif key != self._said and now - self._at >= LINE:
            self._said, self._at = key, now
            tell(line)

    def end(self, status: int, line: str) -> int:
        """Say the last word, to stderr if it is none of success, and return *status*."""
        if self._open:
            print("\r\x1b[K", end="", flush=True)
            self._open = False
        if status:
            complain(line)
        else:
            tell(line)
        return status

    def leave(self) -> None:
        """Leave the terminal at the beginning of a line, whatever has happened."""
        if self._open:
            print(flush=True)
            self._open = False


def tell(line: str) -> None:
    if sys.stdout is None:
        return
    try:
        print(line, flush=True)
    except UnicodeEncodeError:  # a locale without arrows
        encoding = sys.stdout.encoding
        print(line.encode(encoding, "replace").decode(encoding), flush=True)


def complain(text: str) -> None:
    if sys.stderr is not None:
        print(f"gracewrap: {text}", file=sys.stderr)
