"""The agent in a real Node.js, asked and told by the test: what it counts, what it finishes, and
that nobody notices it."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gracewrap.runtime import node_agent
from node_agent import node
from processes import BOUND, descendants, require, wait_until

pytestmark = pytest.mark.node

LISTEN = ".listen(0, '127.0.0.1', function () { console.log('port ' + this.address().port) })\n"
# /MS answers after so many milliseconds; /events is a stream that never ends.
SERVER = (
    """
require('http').createServer((request, response) => {
  if (request.url === '/events') {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' })
    response.write('data: 1\\n\\n')
    return
  }
  setTimeout(() => response.end('done'), Number(request.url.slice(1)))
})"""
    + LISTEN
)
NOTHING = {"requests": 0, "streams": 0, "websockets": 0, "jobs": []}


def test_it_says_hello_and_counts_requests_and_streams():
    with node(SERVER) as run:
        agent = run.connect()
        assert agent.hello["version"] == 1 and str(agent.hello["runtime"]).startswith("node ")
        assert agent.hello["pid"] == run.process.pid
        run.listens()
        assert agent.ask() == NOTHING
        slow = [run.get("/600000") for _ in range(3)]
        agent.until(requests=3, streams=0)
        with socket.create_connection(("127.0.0.1", run.port)) as client:
            client.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
            agent.until(requests=4, streams=1)
        agent.until(requests=3, streams=0)
        run.process.kill()
        for one in slow:
            assert one.exception(BOUND)


def test_a_request_that_is_answered_is_counted_no_more():
    with node(SERVER) as run:
        agent = run.begin()
        with socket.create_connection(("127.0.0.1", run.port)) as client:
            client.sendall(b"GET /300 HTTP/1.1\r\nHost: x\r\n\r\n")
            agent.until(requests=1)
            assert b"done" in client.recv(4096)
            agent.until(requests=0)  # though the connection is kept alive


# A key and a certificate for localhost are in the folder.
TLS = """{ allowHTTP1: true, key: require('fs').readFileSync('key.pem'),
  cert: require('fs').readFileSync('cert.pem') }"""


def certificate(folder: Path) -> None:
    require(shutil.which("openssl"), "openssl")
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
    words += "-subj /CN=localhost -keyout key.pem -out cert.pem"
    subprocess.run(words.split(), cwd=folder, check=True, capture_output=True, timeout=BOUND)


@pytest.mark.parametrize("server", ["https", "http2"])
def test_a_request_over_tls_is_counted_asked_to_leave_and_finished(server: str, tmp_path):
    certificate(tmp_path)
    create = "createServer" if server == "https" else "createSecureServer"
    begins = f"require('{server}').{create}({TLS}, "
    script = SERVER.replace("require('http').createServer(", begins)
    context = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    with node(script, folder=tmp_path) as run:
        agent = run.begin()
        client = http.client.HTTPSConnection("localhost", run.port, timeout=BOUND, context=context)
        with contextlib.closing(client):
            client.request("GET", "/700")
            agent.until(requests=1)
            assert agent.stop() == "agent"
            run.terminate()
            answer = client.getresponse()
            assert (answer.getheader("Connection"), answer.read()) == ("close", b"done")
        assert run.wait() == 0


HTTP2 = (
    """
const server = require('http2').createServer()
server.on('stream', (stream, headers) => {
  setTimeout(() => { stream.respond(); stream.end('done') }, Number(headers[':path'].slice(1)))
})
server"""
    + LISTEN
)
HTTP2_CLIENT = """
const options = { rejectUnauthorized: false }
const client = require('http2').connect(process.env.URL, options)
client.on('goaway', () => console.log('goaway'))
const request = client.request({ ':path': '/1500' })
request.on('data', (data) => console.log(String(data))).on('end', () => client.close())
"""


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_http2_is_counted_told_goaway_and_finished(scheme: str, tmp_path):
    script = HTTP2
    if scheme == "https":
        certificate(tmp_path)
        script = HTTP2.replace("createServer()", f"createSecureServer({TLS})")
    with node(script, folder=tmp_path) as run:
        agent = run.connect()
        environment = os.environ | {"URL": f"{scheme}://127.0.0.1:{run.listens()}"}
        with subprocess.Popen(
            ["node", "-e", HTTP2_CLIENT], env=environment, stdout=subprocess.PIPE
        ) as client:
            agent.until(requests=1)
            assert agent.stop() == "agent"
            run.terminate()
            assert client.communicate(timeout=BOUND)[0].startswith(b"goaway\ndone\n")
        assert run.wait() == 0


def test_what_is_in_flight_at_the_stop_signal_is_finished():
    with node(SERVER) as run:
        run.stopped_within_a_request("/1200")


def test_from_the_stop_on_clients_are_asked_to_leave():
    with node(SERVER) as run:
        agent = run.begin()
        with socket.create_connection(("127.0.0.1", run.port)) as client:
            client.sendall(b"GET /0 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"keep-alive" in client.recv(4096)
            agent.send(type="drain")
            agent.read("state")
            client.sendall(b"GET /0 HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = client.recv(4096)
            assert b"Connection: close" in answer and b"done" in answer + client.recv(4096)
        agent.send(type="undrain")
        agent.read("state")
        with socket.create_connection(("127.0.0.1", run.port)) as client:
            client.sendall(b"GET /0 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"keep-alive" in client.recv(4096)
        run.terminate()
        assert run.wait() == -signal.SIGTERM  # nobody said that a stop comes


@pytest.mark.slow
def test_an_idle_connection_is_closed_once_it_is_idle_for_long():
    with node(SERVER.replace(".listen", ".on('x', () => {}).listen")) as run:
        agent = run.begin()
        with socket.create_connection(("127.0.0.1", run.port), timeout=BOUND) as client:
            agent.send(type="drain")
            agent.read("state")
            began = time.monotonic()
            assert client.recv(1) == b""
            assert time.monotonic() - began > 2


def test_a_connection_that_never_sends_does_not_hold_the_stop():
    with node(SERVER) as run:
        agent = run.begin()
        with socket.create_connection(("127.0.0.1", run.port)):
            assert agent.stop() == "agent"
            run.terminate()
            assert run.wait() == 0


def test_an_event_stream_is_ended():
    with node(SERVER) as run:
        agent = run.begin()
        with socket.create_connection(("127.0.0.1", run.port), timeout=BOUND) as client:
            client.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
            agent.until(streams=1)
            assert agent.stop() == "agent"
            run.terminate()
            received = b""
            while data := client.recv(4096):
                received += data
        assert received.endswith(b"0\r\n\r\n")  # the end of a chunked body, not a cut
        assert run.wait() == 0


def test_an_application_with_a_handler_is_left_alone():
    own = (
        SERVER + "process.on('SIGTERM', () => { console.log('own'); "
        "setTimeout(() => process.exit(7), 300) })"
    )
    with node(own) as run:
        agent = run.begin()
        slow = run.get("/100")
        agent.until(requests=1)
        assert agent.stop() == "own"
        assert slow.result(BOUND)[1]["Connection"] == "close"
        run.terminate()
        assert run.lines.next() == "own"
        assert run.get("/0").result(BOUND)[0] == 200  # it still listens
        assert run.wait() == 7


def test_from_the_stop_on_it_says_what_is_in_flight_and_unasked_when_that_has_ended():
    """Killed from outside it can say nothing; what it has said last counts then."""
    with node(SERVER + "process.on('SIGTERM', () => {})") as run:
        agent = run.begin()
        slow = run.get("/500")
        agent.until(requests=1)
        agent.send(type="stop", signal=int(signal.SIGTERM), deadline_ms=20_000)
        assert agent.read("state")["requests"] == 1
        assert slow.result(BOUND)[2] == b"done"
        said = agent.read("in_flight")
        assert (said["id"], said["requests"]) == (0, 0)


def test_a_handler_that_comes_after_the_stop_was_told_counts():
    late = (
        SERVER + "setInterval(() => { if (!process.ours && process.listenerCount('SIGTERM')) {"
        "process.ours = process.on('SIGTERM', () => process.exit(9));"
        "console.log('ours') } }, 10)"
    )
    with node(late) as run:
        agent = run.begin()
        assert agent.stop() == "agent"
        assert run.lines.next() == "ours"
        run.terminate()
        assert run.wait() == 9


def test_that_its_own_handler_has_not_been_called_is_known_if_the_signal_is_passed_on():
    own = "console.log('up'); process.on('SIGTERM', () => console.log('own'))"
    looks = "process.once('SIGUSR2', () => console.log(process.listenerCount('SIGTERM')))"
    with node(f"{own}; {looks}; setInterval(() => {{}}, 1000)") as run:
        agent = run.connect()
        assert run.lines.next() == "up"
        agent.send(type="stop", signal=int(signal.SIGTERM), deadline_ms=20000, passed_on=True)
        state = agent.read("state")
        assert (state["handler"], state["heard"]) == ("own", False)
        run.terminate()
        state = agent.read("state")
        assert (state["handler"], state["heard"]) == ("own", True)
        assert run.lines.next() == "own"
        run.process.send_signal(signal.SIGUSR2)
        assert run.lines.next() == "1"


def test_a_process_with_nothing_to_finish_ends_as_without_the_agent():
    with node("console.log('up'); setInterval(() => {}, 1000)") as run:
        agent = run.connect()
        assert run.lines.next() == "up"
        assert agent.stop() == "none"
        run.terminate()
        assert run.wait() == -signal.SIGTERM


@pytest.mark.parametrize("how", ["throw %s", "Promise.reject(%s)"])
def test_an_exception_in_the_middle_ends_it_as_node_would(how: str):
    fails = how % "new Error('in the middle')"
    with node(SERVER + f"process.on('SIGCONT', () => {{ {fails} }})") as run:
        agent = run.begin()
        slow = run.get("/600000")
        agent.until(requests=1)
        agent.stop()
        run.terminate()
        run.process.send_signal(signal.SIGCONT)
        assert run.wait() == 1
        assert b"Error: in the middle" in run.process.stderr.read()
        assert slow.exception(BOUND)


def test_it_goes_on_when_gracewrap_is_gone():
    with node(SERVER) as run:
        agent = run.begin()
        agent.close()
        assert run.get("/10").result(BOUND)[2] == b"done"


@pytest.mark.parametrize("line", [b"null\n", b"[]\n", b'{"type":"later"}\n', b"x\n", b"x" * 70_000])
def test_it_survives_whatever_it_is_told(line: bytes):
    with node(SERVER) as run:
        agent = run.begin()
        agent._socket.sendall(line)
        assert run.get("/10").result(BOUND)[2] == b"done"


# What an application could notice.  The error is thrown in a request, and in a job of its own.
LOOKS = """
const http = require('http')
const seen = {}
const names = ['SIGTERM', 'SIGINT', 'exit', 'beforeExit', 'uncaughtException', 'newListener']
for (const name of names) {
  seen[name] = process.listenerCount(name)
}
const emitter = new (require('events'))()
seen.keys = Object.keys(globalThis).length
const server = http.createServer((request, response) => {
  seen.stack = new Error('x').stack
  seen.handles = process._getActiveHandles().length
  seen.resources = process.getActiveResourcesInfo().sort().join()
  seen.server = server.eventNames().map(String).join()
  seen.response = ['close', 'finish', 'end'].map((name) => response.listenerCount(name)).join()
  seen.socket = request.socket.eventNames().map(String).join()
  response.end()
  server.close()
}).listen(0, () => {
  http.get({ port: server.address().port, agent: false }, (response) => {
    response.resume().on('end', () => console.log(JSON.stringify(seen)))
  })
})
"""


def look(script: str, **env: str) -> tuple[int, bytes, bytes]:
    words = ["node", "-e", script]
    done = subprocess.run(words, env=os.environ | env, capture_output=True, timeout=BOUND)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "script",
    [
        LOOKS,
        "process.exitCode = 3",
        "throw new Error('x')",
        "Promise.reject(new Error('x'))",
        "process.kill(process.pid, 'SIGTERM'); setTimeout(() => {}, 1000)",
    ],
)
def test_nobody_notices_it(script: str, tmp_path):
    path = str(tmp_path / "agent")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        options = node_agent.with_agent(b"", node_agent.agent_file()).decode()
        with_agent = look(script, NODE_OPTIONS=options, GRACEWRAP_AGENT_SOCKET=path)
        listener.accept()[0].close()  # else it was not there
    assert with_agent == look(script)


def test_it_is_quiet_without_a_socket(tmp_path):
    options = node_agent.with_agent(b"", node_agent.agent_file()).decode()
    for path in ("", str(tmp_path / "nobody")):
        given = look("console.log(1)", NODE_OPTIONS=options, GRACEWRAP_AGENT_SOCKET=path)
        assert given == (0, b"1\n", b"")


def test_package_managers_are_left_alone(tmp_path):
    (tmp_path / "npm-cli.js").write_text("console.log(Symbol.for('gracewrap.agent') in globalThis)")
    with node("", "npm-cli.js", folder=tmp_path) as run:
        assert run.lines.next() == "false"


MODULE = "import http from 'node:http'\n" + SERVER.replace("require('http')", "http")


def test_es_modules_are_the_same():
    with node(MODULE, "server.mjs") as run:
        agent = run.begin()
        slow = run.get("/700")
        agent.until(requests=1)
        assert agent.stop() == "agent"
        run.terminate()
        assert slow.result(BOUND)[2] == b"done" and run.wait() == 0


CLUSTER = (
    """
const cluster = require('cluster')
if (cluster.isPrimary) {
  for (let i = 0; i < 2; i++) cluster.fork()
  cluster.on('exit', () => cluster.fork())
} else {"""
    + SERVER.replace("listen(0,", "listen(Number(process.env.PORT),")
    + "}"
)


def test_a_cluster_is_finished_by_its_primary():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with node(CLUSTER, PORT=str(port)) as run:
        agents = [run.connect() for _ in range(3)]
        assert run.listens() == port and run.listens() == port
        slow = [run.get("/1000") for _ in range(4)]
        wait_until(
            lambda: sum(int(str(one.ask()["requests"])) for one in agents) == 4, "4 requests"
        )
        assert {one.stop() for one in agents} == {"agent"}
        run.terminate()
        assert [one.result(BOUND)[2] for one in slow] == [b"done"] * 4
        assert run.wait() == 0
        assert descendants(run.process.pid) == []


THREAD = (
    """
const { Worker, isMainThread } = require('worker_threads')
if (isMainThread) new Worker(__filename)
else {"""
    + SERVER
    + "}"
)


def test_a_worker_thread_is_counted_and_told():
    with node(THREAD) as run:
        main, thread = run.connect(), run.connect()
        if main.hello["thread"]:
            main, thread = thread, main
        assert thread.hello["thread"] == 1 and thread.hello["pid"] == run.process.pid
        run.listens()
        slow = run.get("/400")
        thread.until(requests=1)
        assert main.ask()["requests"] == 0
        assert thread.stop() == "none"
        assert slow.result(BOUND)[1]["Connection"] == "close"


STREAMS = (
    """
const http = require('http')
http.createServer((request, response) => {
  response.writeHead(200, { 'Content-Type': 'text/event-stream' })
  response.write('data: 1\\n\\n')
  const timer = setInterval(() => response.write('data: 2\\n\\n'), 20)
  response.on('close', () => clearInterval(timer))
})"""
    + LISTEN
)


def ends(agent, run, count: int, streams: object) -> list[float]:
    """Return when each of so many event streams was ended, in seconds from the stop signal on."""
    clients = [
        socket.create_connection(("127.0.0.1", run.port), timeout=BOUND) for _ in range(count)
    ]
    with contextlib.ExitStack() as stack:
        for client in clients:
            stack.enter_context(client)
            client.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        agent.until(streams=count)
        assert agent.stop(4.0, streams_ms=streams) == "agent"
        began = time.monotonic()
        run.terminate()
        with ThreadPoolExecutor(count) as pool:
            return sorted(one - began for one in pool.map(end_of_stream, clients))


def end_of_stream(client: socket.socket) -> float:
    received = b""
    while data := client.recv(65536):
        received = (received + data)[-5:]
    assert received == b"0\r\n\r\n"  # the end of a chunked body, not a cut
    return time.monotonic()


@pytest.mark.slow
def test_streams_are_ended_one_after_another_within_the_time_that_is_set():
    with node(STREAMS) as run:
        ended = ends(run.begin(), run, 10, 1500)
        assert ended[0] < 1.3 < ended[-1] and ended[5] - ended[0] > 0.3, ended
        assert run.wait() == 0


@pytest.mark.slow
def test_streams_that_are_waited_for_are_ended_before_time_is_up():
    with node(STREAMS) as run:
        ended = ends(run.begin(), run, 2, "wait")
        assert ended[0] > 2.5, ended
        assert run.wait() == 0


EVENTS2 = (
    """
const server = require('http2').createServer()
server.on('stream', (stream) => {
  stream.respond({ 'content-type': 'text/event-stream' })
  stream.write('data: 1')
})
server"""
    + LISTEN
)
EVENTS2_CLIENT = """
const client = require('http2').connect('http://127.0.0.1:' + process.env.PORT)
const request = client.request({ ':path': '/' })
request.on('data', () => {}).on('end', () => { console.log('end'); client.close() })
"""


def test_an_event_stream_over_http2_is_counted_and_ended():
    with node(EVENTS2) as run:
        agent = run.connect()
        environment = os.environ | {"PORT": str(run.listens())}
        words = ["node", "-e", EVENTS2_CLIENT]
        with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE) as client:
            agent.until(requests=1, streams=1)
            assert agent.stop() == "agent"
            run.terminate()
            assert client.communicate(timeout=BOUND)[0] == b"end\n"
        assert run.wait() == 0


BLOCKED = (
    """
require('http').createServer((request, response) => {
  if (request.url === '/block') {
    console.log('blocked')
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 3500)
  }
  response.end('done')
})"""
    + LISTEN
)


@pytest.mark.slow
def test_a_request_that_came_while_the_process_was_busy_is_answered():
    """It is in the kernel when the connection has been idle for too long, as far as Node knows."""
    with node(BLOCKED) as run:
        agent = run.begin()
        with socket.create_connection(("127.0.0.1", run.port), timeout=BOUND) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"done" in client.recv(4096)
            agent.send(type="drain")
            agent.read("state")
            run.get("/block")
            assert run.lines.next() == "blocked"
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"done" in client.recv(4096)


# A poll, a child, and clients of pg and mysql2 as far as the agent knows them: one of each waits
# when the stop comes, and one of each more begins to in the handler.
WAITS = """
const { EventEmitter } = require('events')
class Pg extends EventEmitter {
  escapeIdentifier () {} query () {} end () {} connect () {}
  constructor () { super(); this.readyForQuery = false; this._activeQuery = {} }
}
class Mysql extends EventEmitter {
  changeUser () {} ping () {} promise () {} end () {}
  constructor () { super(); this._command = {} }
}
const ask = (path) => require('http').get({ host: '127.0.0.1', port: process.env.SINK, path })
const sleep = () => require('child_process').spawn('sleep', ['60'])
const held = [new Pg(), new Mysql(), ask('/poll'), sleep()]
process.on('SIGTERM', () => {
  held.push(new Pg(), new Mysql(), ask('/poll'), ask('/report'), sleep())
  const execArgv = ['-e', "process.on('message', () => {})"] // ends with its parent
  held.push(require('child_process').fork('', { execArgv }))
  fetch('http://127.0.0.1:' + process.env.SINK)
  process.on('SIGUSR2', () => held.forEach((one) => one.kill && one.kill()))
})
held[2].on('socket', (socket) => socket.on('connect', () => console.log('port 0')))
"""


def test_what_the_program_waits_for_counts_if_it_has_begun_since_the_stop():
    with (
        socket.create_server(("127.0.0.1", 0)) as sink,
        node(WAITS, SINK=str(sink.getsockname()[1])) as server,
    ):
        agent = server.begin()
        assert agent.ask() == NOTHING
        assert agent.stop() == "own"
        assert agent.ask() == NOTHING
        server.terminate()
        assert agent.until(waits=5) == NOTHING | {"waits": 5}
        server.process.send_signal(signal.SIGUSR2)
        assert agent.until(waits=4) == NOTHING | {"waits": 4}
