"""The agent in applications that do what few do: nothing of it may depend on their being tidy."""

from __future__ import annotations

import pytest

from node_agent import node

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
