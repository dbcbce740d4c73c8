"""`gracewrap status | drain | undrain | stop | restart | health`: they talk to a running gracewrap over its control socket.

Health is run every few seconds, by health checks: what it does not need is imported where it is needed.
"""

from __future__ import annotations

import posix
import sys
import time

from gracewrap.cli import control_client as client
from gracewrap.record import TYPE_CHECKING, Record, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from gracewrap.cli.wait_for_programs import Waited
    from gracewrap.server.control_socket import Found

VARIABLE = "GRACEWRAP_CONTROL_SOCKET"  # what it is for a run, in config.further
HEALTH_WAIT = 2.0  # seconds
LOOK = 0.15  # seconds from one look to the next, while waiting
LINE = 1.0  # seconds between two lines of progress, where they cannot be written over
TAKEN_BACK = 2.0  # seconds after which a drain that has been asked for must have begun

# Option -> the field that it sets, and whether a value follows.
_COMMON = {"--pid": ("pid", True), "--socket": ("socket", True), "--timeout": ("timeout", True)}
_WAIT = {"--wait": ("wait", False)}
_NO_WAIT = {"--no-wait": ("no_wait", False)}
OPTIONS = {
    "status": {"--watch": ("watch", False), "-w": ("watch", False), "--json": ("json", False), **_COMMON},
    "drain": {**_WAIT, **_COMMON},
    "undrain": _COMMON,
    "stop": {**_WAIT, **_NO_WAIT, **_COMMON},
    "restart": {**_NO_WAIT, **_COMMON},
    "health": {"--live": ("live", False), **_COMMON},
}

NAMING = ("status", "stop", "restart")  # programs may be named; of status one


class Asked(Record):
    """The words after the subcommand."""

    programs: tuple[str, ...] = ()
    pid: int | None = None
    socket: str | None = None
    timeout: float | None = None  # seconds
    watch: bool = False
    json: bool = False
    wait: bool = False
    no_wait: bool = False
    live: bool = False
    origin: str = "--socket"  # who says *socket*


def call(action: str, words: Sequence[str]) -> int:
    """Do what `gracewrap ACTION WORDS` asks for, and return the exit status."""
    if {"-h", "--help"}.intersection(words):
        print(help_text(action), end="")
        return 0
    try:
        asked = read(action, words)
        found = client.choose(asked.pid, asked.socket, asked.origin)
        return _DO[action](found, asked)
    except client.Unusable as fault:
        _complain(str(fault))
        return 125
    except client.NoAnswer as fault:
        if action == "health":
            _tell(f"not healthy: {str(fault).partition(chr(10))[0].partition('; is it')[0]}")
        else:
            _complain(str(fault))
        return 1
    except KeyboardInterrupt:
        return 130


def help_text(action: str) -> str:
    """Return what `gracewrap ACTION --help` says."""
    from gracewrap.cli import guide

    return guide.TEXTS[action]


def read(action: str, words: Sequence[str]) -> Asked:
    """Take the words after the subcommand apart.

    Raises:
        Unusable: With the fault, and what to write instead.
    """
    options, given, names, rest = OPTIONS[action], dict[str, object](), list[str](), list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if action in NAMING and not word.startswith("-"):
            names.append(word)
            continue
        if name not in options:
            raise client.Unusable(_unknown(action, name))
        field, takes_value = options[name]
        if not takes_value:
            if equals:
                raise client.Unusable(f"cannot use {word} (gracewrap {action}): it takes no value; write {name}")
            given[field] = True
            continue
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise client.Unusable(
                    f"cannot use {name} (gracewrap {action}): it needs a value; write {name} {_EXAMPLES[field]}"
                )
            value = rest.pop(0)
        given[field] = _value(action, name, field, value)
    asked = replace(Asked(), programs=_programs(action, names), **given)
    if asked.watch and asked.json:
        raise client.Unusable("cannot use --watch with --json (gracewrap status): a view or data; write one of them")
    if asked.wait and asked.no_wait:
        raise client.Unusable(f"cannot use --wait with --no-wait (gracewrap {action}): write one of them")
    return asked if asked.socket or asked.pid else _from_environment(asked)


def _programs(action: str, names: list[str]) -> tuple[str, ...]:
    """Return the programs that were named; an empty name must not come to mean all of them."""
    if "" in names:
        raise client.Unusable(f'cannot use "" (gracewrap {action}): empty; write the name of a program, or leave it out')
    if action == "status" and len(names) > 1:
        from gracewrap.config.load import one_line

        both = " and ".join(map(one_line, names[:2]))
        raise client.Unusable(
            f"cannot use {both} (gracewrap {action}): one program at a time; write one of them, or none for all"
        )
    return tuple(names)


_EXAMPLES = {"pid": "1", "socket": "/run/gracewrap-1.sock", "timeout": "20s"}


def _value(action: str, name: str, field: str, value: str) -> object:
    fault = None
    if field == "pid":
        if value.isascii() and value.isdecimal() and 0 < int(value[:12]) < 1 << 31:
            return int(value)
        fault = "not a pid; write a number, as in --pid 1"
    elif field == "timeout":
        from gracewrap.config.parsers.values import BadValue, duration

        try:
            return duration(value)
        except BadValue as bad:
            fault = str(bad)
    elif not value or "\0" in value:
        fault = "empty; write a path"
    if fault:
        from gracewrap.config.load import show

        raise client.Unusable(f"cannot use {name} = {show(value)} (gracewrap {action}): {fault}")
    return value


def _unknown(action: str, name: str) -> str:
    from gracewrap.config.load import one_line
    from gracewrap.config.suggestions import closest

    shown = one_line(name)
    if not name.startswith("-") or name in ("-", "--"):
        return (
            f"cannot use {shown!r} (gracewrap {action}): it takes options only; to run a program write gracewrap -- {action} ..."
        )
    options = [option for option in OPTIONS[action] if option.startswith("--")]
    near = closest(name, options)
    return f"cannot use {shown} (gracewrap {action}): no such option; write {near or ' or '.join([*options, '--help'])}"


def _from_environment(asked: Asked) -> Asked:
    """Take the socket that a variable names, as a run with the same variable does."""
    named = posix.environ.get(VARIABLE.encode(), b"").decode(errors="surrogateescape").strip()
    if named.lower() in ("", "auto", "off"):  # "off" is about a gracewrap that this environment starts; another may be there
        return asked
    return replace(asked, socket=named, origin=f"environment, {VARIABLE}")


# --- what they do -----------------------------------------------------------------------------------------------------


def _limit(asked: Asked, default: float = client.WAIT) -> float:
    """Return how long to wait for an answer."""
    return default if asked.timeout is None else asked.timeout


def _health(found: Found, asked: Asked) -> int:
    answer = client.Peer(found, _limit(asked, HEALTH_WAIT)).get("/livez" if asked.live else "/readyz")
    if answer.status == 200:
        _tell("alive" if asked.live else "ready")
        return 0
    fields = answer.fields()
    reason = " ".join(str(fields[key]) if key == "reason" else f"({fields[key]})" for key in ("reason", "why") if fields.get(key))
    left = fields.get("seconds_left")
    _tell(f"not ready: {reason or answer.text()}" + (f", {left:.1f} s left" if isinstance(left, int | float) else ""))
    return 1


def _status(found: Found, asked: Asked) -> int:
    from gracewrap.cli import status_view as status

    peer, program = client.Peer(found, _limit(asked)), "".join(asked.programs)
    if asked.json:
        answer = peer.get(client.status_of(program))
        if answer.status != 200:
            raise client.NoAnswer(f"gracewrap (pid {peer.pid}) has no status to tell: {answer.text()}")
        _tell(answer.body.decode(errors="replace").strip())
        return 0
    if asked.watch:
        from gracewrap.cli import status_watch as watch

        return watch.watch(peer, program)
    width = _width()
    for line in status.look_twice(peer, program):
        _tell(line.text[:width] if line.kind == "row" else line.text)
    return 0


def _width() -> int | None:
    """Return the columns of the terminal; None where the output goes elsewhere."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    from shutil import get_terminal_size

    return max(1, get_terminal_size().columns)


def _undrain(found: Found, asked: Asked) -> int:
    answer = client.Peer(found, _limit(asked)).post("undrain")
    return _told(found, answer)


def _drain(found: Found, asked: Asked) -> int:
    from gracewrap.cli import status_view as view

    peer = client.Peer(found, client.WAIT if asked.wait else _limit(asked))
    began = time.monotonic()
    answer = peer.post("drain")
    if not asked.wait or answer.status not in (200, 202, 409):  # 409: it is stopping already, and that is waited for as well
        return _told(found, answer)
    told = _told(found, answer) if answer.status != 409 else 0
    if told:
        return told
    begun = False

    def judge(status: dict[str, Any], elapsed: float) -> tuple[int, str] | None:
        nonlocal begun
        phase = view.word(status, "phase")
        if phase in (*view.UP, "draining", "drained") and not view.probes(status):
            return (
                2,
                "there is nothing to wait for: no drain probe is configured; readiness is off, and what is in flight goes on",
            )
        if view.is_drained(status):
            return 0, f"drained after {view.span(elapsed)}"
        begun = begun or phase not in ("", *view.UP)
        if phase in view.UP and (begun or elapsed > TAKEN_BACK):
            return 1, "not drained: the drain was taken back (gracewrap undrain)"
        return None

    return _wait(peer, began, asked.timeout, judge, "drained")


def _stop(found: Found, asked: Asked) -> int:
    from gracewrap.cli import status_view as view

    if asked.programs:
        return _stop_part(found, asked, "stop")
    peer = client.Peer(found, client.WAIT if asked.wait else _limit(asked))
    before = peer.status()
    began = time.monotonic()
    answer = peer.post("stop")
    if _told(found, answer):
        return 1
    if not before.get("stop") and not asked.wait:
        _tell(f"  {view.commands(before)}\n  to see it stop: gracewrap status --watch")
    return _wait(peer, began, asked.timeout, lambda status, elapsed: None, "gone") if asked.wait else 0


def _restart(found: Found, asked: Asked) -> int:
    return _stop_part(found, asked, "restart")


def _stop_part(found: Found, asked: Asked, action: str) -> int:
    """Stop programs, and what cannot go on without them; start that anew if *action* is "restart"."""
    peer = client.Peer(found, _limit(asked) if asked.no_wait else client.WAIT)
    began = time.monotonic()
    answer = peer.post(action, ",".join(asked.programs))
    if answer.status in (400, 404):  # they must be named, or these are other names
        from gracewrap.config.load import one_line

        _complain(f"cannot {one_line(' '.join((action, *asked.programs)))}: {answer.text()}")
        return 125
    told = _told(found, answer)
    if told or asked.no_wait or answer.status != 202:
        return told
    from gracewrap.cli import wait_for_programs as part

    waited = part.Waited(answer.fields(), asked.programs)
    return _wait(peer, began, asked.timeout, waited.judge, waited.done, waited)


_DO: dict[str, Callable[[Found, Asked], int]] = {
    "status": _status,
    "drain": _drain,
    "undrain": _undrain,
    "stop": _stop,
    "restart": _restart,
    "health": _health,
}


def _told(found: Found, answer: client.Answer) -> int:
    """Print what gracewrap answered, and return 0, or 1 if it refused."""
    if answer.status in (200, 202):
        _tell(f"gracewrap (pid {found.pid}): {answer.text()}")
        return 0
    _complain(f"refused by pid {found.pid}: {answer.text()}")
    return 1


# --- waiting ----------------------------------------------------------------------------------------------------------


def _wait(
    peer: client.Peer,
    began: float,
    timeout: float | None,
    judge: Callable[[dict[str, Any], float], tuple[int, str] | None],
    what: str,
    part: Waited | None = None,
) -> int:
    """Look at the status again and again, until *judge* has an exit status and a last word, or there is nobody any more.

    Args:
        peer: Who is waited for.
        began: When the waiting did (monotonic).
        timeout: For how many seconds; None: without a limit.
        judge: Is given a status and the seconds gone.
        what: It is waited for to be: "drained", "gone".
        part: Only these of its programs are waited for.
    """
    from gracewrap.cli import status_view as view

    progress = Progress()
    last: dict[str, Any] = {}
    try:
        while True:
            elapsed = time.monotonic() - began
            left = LOOK if timeout is None else timeout - elapsed
            peer.timeout = max(0.05, min(client.WAIT, left if timeout is not None else client.WAIT))
            try:
                last = peer.status(processes=False, request="" if part is None else part.request)
                verdict, limit = judge(last, elapsed), view.until_sigkill(last) if part is None else part.left(last)
                doing = view.waiting_for(last) if part is None else part.doing(last)
            except client.Gone:
                return progress.end(*(_gone(peer, last, elapsed) if part is None else part.gone(last, elapsed)))
            except client.NoAnswer:
                verdict, doing, limit = None, "no answer", ""
            if verdict is not None:
                return progress.end(*verdict)
            if left <= 0:
                return progress.end(1, f"not {what} in {view.span(timeout or 0.0)}: {doing}")
            progress.show(", ".join(filter(None, (doing, f"{view.span(elapsed, whole=True)} gone", limit))), doing)
            time.sleep(min(LOOK, left))
    finally:
        progress.leave()


def _gone(peer: client.Peer, last: dict[str, Any], elapsed: float) -> tuple[int, str]:
    """Return exit status and last word about a gracewrap that has ended: what it killed was not drained."""
    from gracewrap.cli import status_view as view

    killed = view.word(last, "phase") == "killing"
    cut = f"; it was killing what was left: {view.waiting_for(last)}" if killed else ""
    return int(killed), f"gracewrap (pid {peer.pid}) has gone after {view.span(elapsed)}{cut}"


class Progress:
    """What is being waited for: a line that is written over on a terminal; elsewhere a line when it has changed."""

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
            _tell(line)

    def end(self, status: int, line: str) -> int:
        """Say the last word, to stderr if it is none of success, and return *status*."""
        if self._open:
            print("\r\x1b[K", end="", flush=True)
            self._open = False
        if status:
            _complain(line)
        else:
            _tell(line)
        return status

    def leave(self) -> None:
        """Leave the terminal at the beginning of a line, whatever has happened."""
        if self._open:
            print(flush=True)
            self._open = False


def _tell(line: str) -> None:
    if sys.stdout is None:
        return
    try:
        print(line, flush=True)
    except UnicodeEncodeError:  # a locale without arrows
        encoding = sys.stdout.encoding
        print(line.encode(encoding, "replace").decode(encoding), flush=True)


def _complain(text: str) -> None:
    if sys.stderr is not None:
        print(f"gracewrap: {text}", file=sys.stderr)
