"""`gracewrap check --agent -- node server.js`: run the command for a moment with the agent loaded,
say what the agent finds in it, and stop it again."""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import time

from gracewrap.cli import own_options
from gracewrap.cli.wait import complain
from gracewrap.config.problems import one_line
from gracewrap.config.settings import COMMAND_LINE
from gracewrap.config.values import BadValue, duration
from gracewrap.drill import new_children
from gracewrap.linux import agent_socket, process_tree, signal_and_kill
from gracewrap.linux.prctl import PR_SET_CHILD_SUBREAPER, prctl
from gracewrap.probes import agent as messages
from gracewrap.record import TYPE_CHECKING, Record
from gracewrap.runtime import node_agent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence, Set

AGENT, FOR, JSON = "--agent", "--for", "--json"
LIMIT = 10.0  # seconds, unless --for says otherwise
SETTLES = 1.0  # seconds that a command is looked at once it has a server or a worker
STOPS = 5.0  # seconds that it has to end in
ANSWERS = 1.0  # seconds for the agents to say who handles the stop signal
TURN = 0.1  # seconds from one look to the next
LISTS = ("libraries", "servers", "workers", "clients", "handlers")
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
HANDLED = {
    "own": "the application's own handler acts; the agent counts, and closes nothing",
    "agent": "the agent finishes requests and jobs, closes what is open, and exits",
    "none": "the process ends at once: the agent sees nothing to finish",
}
EXITS_EARLY = "if the handler exits before requests and jobs are done: --drain-when before-signal"


class Asked(Record):
    """What the words say."""

    command: tuple[str, ...] = ()
    limit: float = LIMIT
    json: bool = False
    help: bool = False
    problem: str = ""


def taken(words: Sequence[str]) -> Asked | None:
    """Return what is asked for; None if the words hold no --agent, or the setting of that name,
    which has a value."""
    options = list(words[: words.index("--")] if "--" in words else words)
    for at, word in enumerate(options):
        if word == AGENT and (at + 1 == len(options) or options[at + 1].startswith("-")):
            before = own_options.taken(options[:at], {FOR: "5s"})[0]
            if own_options.is_free(before):
                return _asked(options[:at] + options[at + 1 :], words[len(options) + 1 :])
    return None


def _asked(options: list[str], command: Sequence[str]) -> Asked:
    rest, own, problem = own_options.taken(options, {FOR: "5s"})
    if {"-h", "--help"}.intersection(rest):
        return Asked(help=True)
    if problem:
        return Asked(problem=problem)
    as_json = JSON in rest
    rest = [word for word in rest if word != JSON]
    if rest and rest[0].startswith("-"):
        why = f"it takes {FOR} and {JSON} only, and a command after --"
        name = one_line(rest[0].partition("=")[0])
        return Asked(problem=f"cannot use {name} ({COMMAND_LINE}) with check {AGENT}: {why}")
    if rest or not command or not command[0]:
        why = f"it needs a command after --; use gracewrap check {AGENT} -- node server.js"
        return Asked(problem=f"cannot use {AGENT} ({COMMAND_LINE}): {why}")
    try:
        limit = duration(own[FOR][-1]) if FOR in own else LIMIT
    except BadValue as fault:
        return Asked(problem=f"cannot use {FOR} = {one_line(own[FOR][-1])!r}: {fault}")
    return Asked(tuple(command), limit, as_json)


def run(asked: Asked) -> int:
    """Run the command, print what there is in it, stop it; return 0, 125, or 130 for Ctrl-C."""
    if asked.problem:
        complain(asked.problem)
        return 125
    loaded = node_agent.prepare(asked.command, None)
    if loaded.socket is None:
        complain(f"a run would be without the agent: {loaded.why_not}")
        return 125
    fd, path = loaded.socket
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # what the command leaves behind becomes ours, and is ended
    try:
        with socket.socket(fileno=fd) as listener:
            for signum in STOPPING:
                signal.signal(signum, _interrupt)
            return _look(asked, {**os.environb, **loaded.variables}, listener)
    except KeyboardInterrupt:
        complain("interrupted; the command has been ended")
        return 130
    finally:
        node_agent.remove(path)


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def _look(asked: Asked, environment: dict[bytes, bytes], listener: socket.socket) -> int:
    before = new_children.known()
    began = time.monotonic()
    try:
        process = subprocess.Popen(
            asked.command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=2,  # ours is for what is found
            start_new_session=True,  # Ctrl-C is for us, and we stop it
        )
        watch = _Watch(listener, process)
        try:
            watch.until_settled(began + asked.limit)
        except KeyboardInterrupt:
            watch.stop()  # the second one kills
            raise
        status, after = process.poll(), time.monotonic() - began
        ending = watch.stop() if status is None else None
    except OSError as error:
        complain(f"cannot start {one_line(asked.command[0])}: {error.strerror}")
        return 125
    finally:
        _end_all(before)
    if asked.json:
        print(json.dumps(as_data(watch.agents, ending)))
    elif lines := list(described(watch.agents)):
        print("\n".join(lines))
    if status is not None:
        complain(f"the command ended by itself after {after:.1f} s ({_shown(status)})")
    elif not any(one.runtime for one in watch.agents):
        complain(
            "no Node.js process of the command has loaded the agent, or it computes without a "
            "pause and cannot answer; what it has written is above"
        )
    elif ending is not None and not asked.json:
        print(ending.text)
    return 0 if status is None and any(one.lists for one in watch.agents) else 125


class Ending(Record):
    """How the command ended *seconds* after SIGTERM; *status* is None if it had to be killed, -N if
    signal N has ended it."""

    seconds: float
    status: int | None

    @property
    def text(self) -> str:
        """For people."""
        if self.status is None:
            return f"It had not ended {STOPS:.0f} s after SIGTERM, and was killed."
        return f"It ended {self.seconds:.1f} s after SIGTERM: {_shown(self.status)}."


def _shown(status: int) -> str:
    return f"exit status {status}" if status >= 0 else signal.Signals(-status).name


def _end_all(before: Set[int]) -> None:
    """Leave no process behind, whatever has happened; nothing interrupts this.

    Args:
        before: The children that we had already: of whoever was this process before.
    """
    for signum in STOPPING:
        signal.signal(signum, signal.SIG_IGN)
    new_children.end(before)


class Agent:
    """One process of the command, or one thread of it, as its agent tells of it."""

    def __init__(self, peer: agent_socket.Peer) -> None:
        self.peer, self.pid = peer, peer.pid
        self.runtime, self.thread, self.script = "", 0, ""
        self.lists: dict[str, list[str]] = {}
        self.handler = ""
        self.troubles: list[str] = []
        self.is_asked = False

    @property
    def works(self) -> bool:
        """Whether there is something that a stop could cut."""
        return bool(self.lists.get("servers") or self.lists.get("workers"))

    def said(self, line: bytes) -> None:
        """Take in a message."""
        match messages.parse(line):
            case messages.Hello() as hello:
                self.runtime, self.thread = hello.runtime, hello.thread
            case messages.State() as state:
                self.handler = state.handler
            case messages.Trouble() as trouble:
                self.troubles = [*self.troubles, trouble.why][:16]
            case None:
                self._found(line)

    def _found(self, line: bytes) -> None:
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            return
        if self.runtime and isinstance(said, dict) and said.get("type") == "found":
            lists = {name: said.get(name) for name in LISTS}
            self.lists = {
                name: [one_line(str(one)) for one in value] if isinstance(value, list) else []
                for name, value in lists.items()
            }
            self.script = one_line(str(said.get("script", "")))
            self.is_asked = False


class _Watch:
    """The command, while it runs, and the agents in it."""

    def __init__(self, listener: socket.socket, process: subprocess.Popen[bytes]) -> None:
        self._listener, self._process = listener, process
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self.agents: list[Agent] = []
        self._open: dict[int, Agent] = {}

    def until_settled(self, limit: float) -> None:
        """Ask the agents until one has had a server or a worker for a moment, or the command has
        ended; at most until *limit*."""
        settled: float | None = None
        while time.monotonic() < (limit if settled is None else min(limit, settled)):
            self._turn()
            for one in list(self._open.values()):
                if not one.is_asked and one.runtime:
                    one.is_asked = True
                    one.peer.send('{"type": "find"}')
            if settled is None and any(one.works for one in self._open.values()):
                settled = time.monotonic() + SETTLES
            if self._process.poll() is not None:
                self._turn()  # what it has said last
                return

    def stop(self) -> Ending:
        """Stop the command as a run would; return how it ended."""
        order = {"type": "stop", "signal": int(signal.SIGTERM), "deadline_ms": int(STOPS * 1000)}
        for one in self._open.values():
            one.peer.send(json.dumps(order))
        self._until(self._have_answered, ANSWERS)
        began = time.monotonic()
        pids = {one.pid for one in self._open.values()}
        if not pids or self._process.pid in pids:
            pids = {self._process.pid}  # else it is a script, npm or a shell: those behind it
        for pid in pids:
            if process_tree.is_below_us(pid):
                signal_and_kill.signal_leader(pid, signal.SIGTERM)
        self._until(lambda: self._process.poll() is not None, STOPS)
        return Ending(time.monotonic() - began, self._process.returncode)

    def _have_answered(self) -> bool:
        return all(one.handler or not one.lists for one in self._open.values())

    def _until(self, done: Callable[[], bool], seconds: float) -> None:
        limit = time.monotonic() + seconds
        while not done() and time.monotonic() < limit:
            self._turn()

    def _turn(self) -> None:
        for key, _ in self._selector.select(TURN):
            if key.data is None:
                self._accept()
            else:
                self._read(key.data)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        pid = agent_socket.pid_of(sock)
        if len(self._open) >= agent_socket.MOST_PEERS or not process_tree.is_below_us(pid):
            sock.close()
            return
        one = Agent(agent_socket.Peer(sock, pid))
        self._open[one.peer.fd] = one
        self.agents.append(one)
        self._selector.register(one.peer.fd, selectors.EVENT_READ, one)

    def _read(self, one: Agent) -> None:
        try:
            for line in one.peer.lines():
                one.said(line)
        except EOFError:
            self._selector.unregister(one.peer.fd)
            del self._open[one.peer.fd]
            one.peer.close()


def described(agents: Sequence[Agent]) -> Iterator[str]:
    """Yield what there is, for people; processes in which there is nothing only if all are so."""
    agents = [one for one in agents if one.runtime]
    telling = [one for one in agents if one.troubles or any(one.lists.values())]
    for one in telling or agents:
        thread = f", thread {one.thread}" if one.thread else ""
        yield f"{one.runtime} {one.script}".rstrip() + f" (pid {one.pid}{thread})"
        for name in LISTS if one.lists else ():
            yield f"  {name:<10} {', '.join(one.lists[name]) or 'none'}"
        if one.handler and not one.thread:
            yield f"  {'on SIGTERM':<10} {HANDLED[one.handler]}"
            if one.handler == "own" and (one.lists.get("servers") or one.lists.get("workers")):
                yield f"  {'hint':<10} {EXITS_EARLY}"
        for why in one.troubles:
            yield f"  {'problem':<10} {why}"


def as_data(agents: Sequence[Agent], ending: Ending | None) -> dict[str, object]:
    """Return what there is for --json; "stopped" is null if the command ended by itself."""
    processes = [
        {
            "runtime": one.runtime,
            "script": one.script,
            "pid": one.pid,
            "thread": one.thread,
            **{name: one.lists.get(name, []) for name in LISTS},
            "on_sigterm": one.handler or None,
            "problems": one.troubles,
        }
        for one in agents
        if one.runtime
    ]
    stopped = None
    if ending is not None:
        signum = -ending.status if ending.status is not None and ending.status < 0 else None
        stopped = {
            "seconds": round(ending.seconds, 3),
            "killed": ending.status is None,
            "status": None if signum else ending.status,
            "signal": signal.Signals(signum).name if signum else None,
        }
    return {"processes": processes, "stopped": stopped}
