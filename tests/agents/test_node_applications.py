"""The agent in applications that do what few do: nothing of it may depend on their being tidy."""

from __future__ import annotations

import signal

import pytest

from node_agent import Connection, Node, node
from processes import BOUND, wait_until

pytestmark = pytest.mark.node

LISTEN = ".listen(0, '127.0.0.1', function () { console.log('port ' + this.address().port) })\n"
SERVER = (
    "require('http').createServer((request, response) => {\n"
    "  setTimeout(() => response.end('done'), Number(request.url.slice(1)))\n"
    "})" + LISTEN
)


ODD = [
    "null",
    "{ get constructor () { throw new Error('no') } }",
    "new Proxy({}, { has () { throw 1 } })",
]


@pytest.mark.parametrize("prototype", ODD)
def test_an_odd_emitter_does_not_hide_the_servers(prototype: str):
    odd = f"require('events').call(Object.create({prototype}))\n"
    with node(odd + SERVER) as run:
        run.stopped_within_a_request("/700")


CLOSED = (
    """
const server = require('http').createServer((request, response) => {
  server.close()
  setTimeout(() => response.end('done'), Number(request.url.slice(1)))
})
server"""
    + LISTEN
)
# As a proxy of connections hands them over: @socket.io/sticky, for one.
GIVEN = (
    """
const server = require('http').createServer((request, response) => {
  setTimeout(() => response.end('done'), Number(request.url.slice(1)))
})
require('net').createServer(function (socket) {
  server.emit('connection', socket)
  this.close()
})"""
    + LISTEN
)


@pytest.mark.parametrize("script", [CLOSED, GIVEN])
def test_a_request_is_finished_though_its_server_listens_no_more(script: str):
    with node(script) as run:
        run.stopped_within_a_request("/1000")


HEADERS = [
    "setHeader('Connection', 'keep-alive')",
    "setHeader('X', '1').writeHead(200, { Connection: 'keep-alive' })",
    "writeHead(200, { Connection: 'Keep-Alive', 'X-Other': 'here' })",
    "writeHead(200, ['Connection', 'keep-alive', 'X-Other', 'here'])",
    "writeHead(200, 'OK', [['Connection', 'keep-alive'], ['X-Other', 'here']])",
]


@pytest.mark.parametrize("head", HEADERS)
def test_clients_are_asked_to_leave_though_the_application_says_they_may_stay(head: str):
    """Proxies do so: http-proxy says keep-alive in each of its answers."""
    answer = f"response.{head}.end('done')"
    script = f"require('http').createServer((request, response) => {answer})" + LISTEN
    with node(script) as run:
        agent = run.begin()
        assert run.get("/").result(BOUND)[1]["Connection"].lower() == "keep-alive"
        agent.send(type="drain")
        agent.read("state")
        _, headers, body = run.get("/").result(BOUND)
        assert headers["Connection"] == "close" and body == b"done"
        assert ("X-Other" in head) == (headers.get("X-Other") == "here")


LATE = "setTimeout(() => {\n" + SERVER + "}, 600)\n"


def test_a_server_that_listens_after_the_stop_was_told_is_finished():
    """A worker of a cluster that has just been started again, for one."""
    with node(LATE) as run:
        agent = run.connect()
        assert agent.stop() == "none"
        run.listens()
        assert agent.read("state")["handler"] == "agent"
        slow = run.get("/700")
        agent.until(requests=1)
        run.terminate()
        assert slow.result(BOUND)[2] == b"done" and run.wait() == 0


# One worker ends at once, the other one has a request to finish.
CLUSTER = (
    """
const cluster = require('cluster')
if (cluster.isPrimary) {
  for (let i = 0; i < 2; i++) cluster.fork()
  cluster.on('exit', () => { console.log('again'); cluster.fork() })
} else {"""
    + SERVER
    + "}"
)


def test_a_worker_that_a_cluster_starts_again_during_the_stop_does_not_begin():
    with node(CLUSTER) as run:
        agents = [run.connect() for _ in range(3)]
        run.listens()
        run.listens()
        slow = run.get("/3000")
        wait_until(lambda: sum(one.requests() for one in agents) == 1, "a request")
        assert {one.stop() for one in agents} == {"agent"}
        run.terminate()
        assert slow.result(BOUND)[2] == b"done" and run.wait() == 0
        assert run.lines.rest() == ["again", "again"]  # no other has listened, and none is left


def in_a_thread(script: str, main: str = "") -> str:
    return (
        "const { Worker, isMainThread, parentPort } = require('worker_threads')\n"
        f"if (isMainThread) {{ const worker = new Worker(__filename); {main} }} else {{ {script} }}"
    )


def both(run: Node) -> tuple[Connection, Connection]:
    """The agents of the main thread and of the other one."""
    first, second = sorted((run.connect(), run.connect()), key=lambda one: str(one.hello["thread"]))
    return first, second


@pytest.mark.parametrize("is_told_first", [True, False])
def test_what_a_worker_thread_serves_is_finished(is_told_first: bool):
    """The signal reaches the main thread, which has nothing of its own to finish."""
    with node(in_a_thread(SERVER)) as run:
        main, thread = both(run)
        run.listens()
        slow = run.get("/1500")
        thread.until(requests=1)
        if is_told_first:
            assert thread.stop() == "none"
            assert main.stop() == "agent"
        else:
            assert main.stop() == "none"  # the thread does not say anything before it is told
            assert thread.stop() == "none"
            assert main.read("state")["handler"] == "agent"
        run.terminate()
        assert slow.result(BOUND)[2] == b"done" and run.wait() == 0


# As one of a pool waits for work, or as one that computes: it hears nothing.
DEAF = "setTimeout(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0), 100)"


@pytest.mark.parametrize("wait", ["setInterval(() => {}, 1000)", DEAF])
def test_a_thread_that_serves_nothing_changes_nothing(wait: str):
    with node(in_a_thread(wait)) as run:
        main, _ = both(run)
        assert main.stop() == "none"
        run.terminate()
        assert run.wait() == -signal.SIGTERM


def test_threads_of_an_application_with_a_handler_end_as_it_ends_them():
    stops = "process.on('SIGTERM', () => worker.postMessage('stop'))"
    thread = f"const server = {SERVER}; parentPort.once('message', () => server.close())"
    with node(in_a_thread(thread, stops)) as run:
        main, other = both(run)
        run.listens()
        slow = run.get("/700")
        other.until(requests=1)
        assert other.stop() == "none" and main.stop() == "own"
        run.terminate()
        assert slow.result(BOUND)[2] == b"done" and run.wait() == 0


def test_a_process_with_many_listeners_is_not_warned_of_the_agents():
    """Node.js warns of the eleventh listener for an event, for it may be a leak."""
    many = "for (let i = 0; i < 10; i++) process.on('exit', () => {})\n"
    many += "process.on('warning', (warning) => console.log(warning.name))\n"
    with node(many + SERVER) as run:
        run.stopped_within_a_request("/300")
        assert run.lines.rest() == []
