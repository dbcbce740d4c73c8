// The server's WebSockets of the library ws, and the clients of Socket.IO (Engine.IO) that poll instead,
// at first or for good: those that are open, and how they are closed.
'use strict'

const GOING_AWAY = 1001 // RFC 6455, section 7.4.1
const OPEN = 1

function pollers (found) {
  return found.engineSocket.all()
    .filter(({ transport, readyState }) => readyState === 'open' && transport && transport.name === 'polling')
}

function open (found) {
  const sockets = found.websocket.all().filter((one) => one._isServer && one.readyState === OPEN)
  return [...sockets, ...pollers(found)]
}

// The responses that such clients wait for: each until there is something to say, or for 25 s.
function polls (found) {
  return new Set(pollers(found).map(({ transport }) => transport.res))
}

function close (socket) {
  if (socket.terminate) socket.close(GOING_AWAY, 'the server stops')
  else socket.close() // answers the poll
}

module.exports = { close, open, polls }
