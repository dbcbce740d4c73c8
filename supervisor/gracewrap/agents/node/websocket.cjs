// The server's WebSockets of the library ws: those that are open, and how they are closed.
'use strict'

const GOING_AWAY = 1001 // RFC 6455, section 7.4.1
const OPEN = 1

function open (found) {
  return found.websocket.all().filter((one) => one._isServer && one.readyState === OPEN)
}

function close (socket) {
  socket.close(GOING_AWAY, 'the server stops')
}

module.exports = { close, open }
