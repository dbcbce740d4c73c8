// Opens COUNT WebSockets, and says how each is closed.
'use strict'

const [kind, port, count] = process.argv.slice(2)
let left = Number(count)
let open = 0
const opened = () => { if (++open === Number(count)) console.log('open') }
const closed = (how) => { console.log(how); if (--left === 0) process.exit() }
for (let i = 0; i < Number(count); i++) {
  if (kind === 'ws') {
    const { WebSocket } = require('ws')
    new WebSocket(`ws://127.0.0.1:${port}`).on('open', opened).on('close', (code) => closed(code))
  } else {
    const { io } = require('socket.io-client')
    io(`ws://127.0.0.1:${port}`, { transports: [kind === 'polling' ? kind : 'websocket'], reconnection: false, forceNew: true })
      .on('connect', opened).on('disconnect', (reason, details) => closed(details && details.description && details.description.code ? details.description.code : reason))
  }
}
