// WebSockets by ws or Socket.IO, without a line of shutdown code.
'use strict'

const server = require('http').createServer((request, response) => response.end('done'))
if (process.argv[2] === 'ws') {
  const { WebSocketServer } = require('ws')
  new WebSocketServer({ server }).on('connection', (socket) => socket.send('hello'))
} else {
  const { Server } = require('socket.io')
  new Server(server).on('connection', (socket) => socket.emit('hello'))
}
server.listen(0, '127.0.0.1', () => console.log(`port ${server.address().port}`))
