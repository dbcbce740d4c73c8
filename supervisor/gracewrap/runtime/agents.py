"""Talks to the agents inside one program: tells them of the stop, asks what is in flight, logs what
is wrong with them."""

from __future__ import annotations

import time

from gracewrap.linux import process_tree
from gracewrap.linux.agent_socket import Listener, Peer
from gracewrap.policy.model import AgentsTold
from gracewrap.record import TYPE_CHECKING
from gracewrap.report.json_encoder import dumps
from gracewrap.report.probe_events import (
    AgentConnected,
    AgentExited,
    AgentsAnswered,
    AgentTrouble,
    AgentUnseen,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gracewrap.linux.reactor import Reactor
    from gracewrap.policy.model import AgentCounts, Event, TellAgents
    from gracewrap.probes import agent as messages
    from gracewrap.probes.base import OnAnswers
    from gracewrap.report.recorder import Recorder
    from gracewrap.runtime.program_processes import Child

NOT = -1.0  # a time that never was: it may have come
ALWAYS = float("inf")  # if it had come, it would be gone, or the agent acts on it once
MOST_TROUBLES = 16  # lines about what is wrong with agents, for each start of the program


class Agent:
    """One that has said hello."""

    def __init__(self, runtime: str, thread: int) -> None:
        self.runtime, self.thread = runtime, thread  # 0: the main thread
        self.counts: AgentCounts | None = None  # what it has said last
        self.counted_at = NOT
        self.exits = False  # that was its last word
        self.answered = False  # the current question
        self.handler = ""  # as of messages.State; "": it has not been told, or has not answered yet
        self.unheard_at = NOT  # since when, at the latest, the stop signal has not come


class Agents:
    """The agents inside one program.

    Args:
        reactor: For descriptors and timers.
        child: The program.
        fd: The listening socket.
        is_member: Returns whether a process is of the program.
        post: Takes an event for the policy.
        recorder: Takes what is to be logged.
    """

    def __init__(
        self,
        reactor: Reactor,
        child: Child,
        fd: int,
        is_member: Callable[[int], bool],
        post: Callable[[Event], None],
        recorder: Recorder,
    ) -> None:
        self._child, self._post, self._recorder = child, post, recorder
        self._listener = Listener(reactor, fd, is_member, self._received, self._gone)
        self._agents: dict[Peer, Agent] = {}
        self._number = 0  # of the current question
        self._asked_at = NOT  # when it was asked
        self._asking: OnAnswers | None = None
        self._owing: dict[Peer, float] = {}  # who has been told or asked, and said nothing since
        child.history.in_flight.unanswered = self.unanswered
        self.reset()

    def reset(self) -> None:
        """Reset the state of the previous run: the program is about to be started."""
        self._told: TellAgents | None = None  # what new ones are told too
        self._waits = False  # for the answers to "stop"
        self._troubles: set[str] = set()
        self._finished: dict[Peer, int] = {}  # requests since the stop, as each has said last

    def on_gone(self) -> None:
        """The program has no process left; nor has it agents."""
        self._listener.read()
        for peer in list(self._listener.peers):
            self._listener.drop(peer)

    @property
    def connected(self) -> int:
        """How many agents there are."""
        return len(self._agents)

    def unheard(self) -> dict[int, float]:
        """Return the processes whose agents say that the stop signal has not come, and up to when
        that is known."""
        self._listener.read()
        mains = [(peer.pid, one.unheard_at) for peer, one in self._agents.items() if not one.thread]
        return {pid: at for pid, at in mains if at != NOT}

    def unanswered(self, at: float) -> list[tuple[int, float]]:
        """Return the processes that owe an answer, and for how many seconds.

        One whose main thread has been heard of is waited for by that alone.
        """
        mains = {peer.pid for peer, agent in self._agents.items() if agent.thread == 0}
        return [
            (peer.pid, at - since)
            for peer, since in self._owing.items()
            if peer.pid not in mains or (peer in self._agents and not self._agents[peer].thread)
        ]

    def _owes(self, peer: Peer) -> None:
        self._owing.setdefault(peer, time.monotonic())

    # --- the policy's commands -------------------------------------------------------------------

    def tell(self, command: TellAgents) -> None:
        """Tell all agents; AgentsTold answers a "stop" when they all have answered, or are gone."""
        self._listener.read()  # one that has just connected, for one
        self._told = None if command.what == "undrain" else command
        self._waits = command.what == "stop"
        for peer in self._listener.peers:  # one that has not said hello yet owes that
            self._owes(peer)
        for peer, agent in list(self._agents.items()):
            agent.handler, agent.unheard_at = "", NOT
            self._listener.send(peer, self._order(command, peer))
        self._look_whether_told()

    def _order(self, command: TellAgents, peer: Peer) -> str:
        if command.what != "stop":
            return dumps({"type": command.what})
        left = max(0.0, command.kill_at - time.monotonic())
        settings = self._child.settings
        order = {"type": "stop", "signal": settings.stop_signal, "deadline_ms": int(left * 1000)}
        streams = settings.drain_streams
        if streams is not None:
            order["streams_ms"] = "wait" if streams == float("inf") else int(streams * 1000)
        if peer.pid != self._child.target_pid:
            order["passed_on"] = True
        return dumps(order)

    def _look_whether_told(self) -> None:
        peers = self._listener.peers
        if self._waits and not self._waits_for(peers, lambda agent: agent.handler):
            self._waits = False
            at, index = time.monotonic(), self._child.index
            # The main thread of a process says who acts on the signal; the others never receive it.
            mains = [one for one in self._agents.values() if one.thread == 0]
            handlers = [one.handler for one in mains if one.handler]
            counted = [handlers.count(handler) for handler in ("own", "agent", "none")]
            if handlers:
                self._recorder.record(AgentsAnswered(index, *counted), at)
            self._post(AgentsTold(index, at, finishes="agent" in handlers))

    def _waits_for(self, peers: Iterable[Peer], has_answered: Callable[[Agent], object]) -> bool:
        """Return whether one of the peers has still to answer.

        One that has connected and not said hello yet has just started: it is waited for as well.
        Not so the further threads of a process whose main thread has been heard of: those of a pool
        often wait for work in such a way that they hear nothing else.
        """
        mains = {peer.pid for peer, agent in self._agents.items() if agent.thread == 0}
        for peer in peers:
            agent = self._agents.get(peer)
            if agent is not None and has_answered(agent):
                continue
            if peer.pid not in mains or (agent is not None and agent.thread == 0):
                return True
        return False

    # --- the probe -------------------------------------------------------------------------------

    def ask(self, on_answers: OnAnswers) -> None:
        """Ask all agents what is in flight; *on_answers* is given None if there is none."""
        if not self._agents:
            on_answers(None)
            return
        self._number += 1
        self._asking, self._asked_at = on_answers, time.monotonic()
        for peer, agent in list(self._agents.items()):
            agent.answered = False
            self._owes(peer)
            self._listener.send(peer, dumps({"type": "ask", "id": self._number}))
        self._look_whether_answered()

    def cancel(self) -> None:
        """Do not wait for the answers any more."""
        self._asking = None

    def _look_whether_answered(self) -> None:
        if self._asking is None:
            return
        if not self._waits_for(self._agents, lambda agent: agent.answered):
            answers = [one.counts for one in self._agents.values() if one.counts is not None]
            on_answers, self._asking = self._asking, None
            on_answers(answers or None)

    # --- what agents say -------------------------------------------------------------------------

    def _received(self, peer: Peer, line: bytes) -> None:
        from gracewrap.probes import agent as messages  # with json, which the start need not have

        self._owing.pop(peer, None)  # its event loop turns
        message = messages.parse(line)
        agent = self._agents.get(peer)
        if agent is None:
            if isinstance(message, messages.Hello):
                self._greeted(peer, message)
            elif message is not None:
                self._listener.drop(peer)
            return
        match message:
            case messages.InFlight(number, counts, unheard):
                agent.counts, agent.counted_at = counts, time.monotonic()
                self._note_finished(peer, counts)
                if number and number == self._number:  # else it is unasked, or too late an answer
                    agent.answered = True
                    if agent.unheard_at != ALWAYS:
                        agent.unheard_at = self._asked_at if unheard else NOT
                    self._look_whether_answered()
            case messages.LastCounts(counts, exception):
                agent.exits = True
                self._note_finished(peer, counts)
                if counts.in_flight > counts.streams:  # which never end by themselves
                    what = messages.shown(counts)
                    event = AgentExited(self._child.index, peer.pid, counts, what, exception)
                    self._recorder.record(event, time.monotonic())
            case messages.State(handler, unheard, counts):
                # Of the program's own handler that counts as long as the signal was not sent, or
                # passed on: from then on the answers to questions do.
                agent.handler = handler
                agent.unheard_at = ALWAYS if unheard and handler != "own" else NOT
                if counts is not None:
                    agent.counts, agent.counted_at = counts, time.monotonic()
                self._look_whether_told()
            case messages.Trouble(why):
                self._log_trouble(peer.pid, why)
            case _:
                pass  # of a later version

    def _greeted(self, peer: Peer, hello: messages.Hello) -> None:
        from gracewrap.probes.agent import VERSION

        if hello.version != VERSION:
            self._log_trouble(peer.pid, f"it speaks version {hello.version} of the protocol")
            self._listener.drop(peer)
            return
        self._agents[peer] = Agent(hello.runtime, hello.thread)
        event = AgentConnected(self._child.index, peer.pid, hello.runtime, hello.thread)
        self._recorder.record(event, time.monotonic())
        if self._told is not None:
            self._listener.send(peer, self._order(self._told, peer))

    def _note_finished(self, peer: Peer, counts: AgentCounts) -> None:
        if counts.finished:
            self._finished[peer] = counts.finished
            self._child.history.finished = sum(self._finished.values())

    def _log_trouble(self, pid: int, why: str) -> None:
        if why not in self._troubles and len(self._troubles) < MOST_TROUBLES:
            self._troubles.add(why)
            self._recorder.record(AgentTrouble(self._child.index, pid, why), time.monotonic())

    def _note_unseen(self, peer: Peer, agent: Agent) -> None:
        """Say what was in flight in a process that has ended in a stop without a last word of its
        agent: somebody has killed it, or it has crashed."""
        counts = agent.counts
        if self._told is None or self._told.what != "stop" or agent.thread or agent.exits:
            return
        if counts is None or counts.in_flight <= counts.streams:  # which never end by themselves
            return
        # What our own SIGKILL cuts is told with that.
        if self._child.history.killed or not process_tree.is_ending(peer.pid):
            return
        from gracewrap.probes import agent as messages

        at, what = time.monotonic(), messages.shown(counts)
        before = at - agent.counted_at
        self._recorder.record(AgentUnseen(self._child.index, peer.pid, counts, what, before), at)

    def _gone(self, peer: Peer) -> None:
        agent = self._agents.pop(peer, None)
        if agent is not None:
            self._note_unseen(peer, agent)
        self._owing.pop(peer, None)
        self._look_whether_told()
        self._look_whether_answered()
