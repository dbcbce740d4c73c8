// A server that speaks as much of MongoDB's wire protocol as its driver needs to connect, insert and leave (OP_MSG alone): there
// is no real one in the registries.  Prints its port, then the name of each command.
'use strict'

const { calculateObjectSize, deserialize, serialize } = require('bson')
const OP_QUERY = 2004 // only for the very first hello of a driver
const OP_REPLY = 1
const OP_MSG = 2013

function answerTo (command) {
  const name = Object.keys(command)[0]
  if (/^(hello|ismaster|isMaster)$/.test(name)) {
    return {
      ok: 1, helloOk: true, ismaster: true, isWritablePrimary: true, maxBsonObjectSize: 16777216, maxMessageSizeBytes: 48000000,
      maxWriteBatchSize: 100000, localTime: new Date(), minWireVersion: 0, maxWireVersion: 21, logicalSessionTimeoutMinutes: 30, readOnly: false
    }
  }
  if (name === 'insert') return { ok: 1, n: command.documents ? command.documents.length : 1 }
  return { ok: 1 }
}

// The command of an OP_MSG: its body, with the documents that a driver may put into a section of their own.
function commandOf (message) {
  let at = 20
  let command = {}
  const more = {}
  while (at < message.length) {
    const kind = message[at]
    const size = message.readInt32LE(at + 1)
    if (kind === 0) command = deserialize(message.subarray(at + 1, at + 1 + size))
    else {
      let inside = message.indexOf(0, at + 5) + 1
      const name = message.toString('latin1', at + 5, inside - 1)
      more[name] = []
      while (inside < at + 1 + size) {
        const length = message.readInt32LE(inside)
        more[name].push(deserialize(message.subarray(inside, inside + length)))
        inside += length
      }
    }
    at += 1 + size
  }
  return { ...command, ...more }
}

function reply (socket, request, old, body) {
  const text = serialize(body)
  const head = Buffer.alloc(old ? 36 : 21)
  head.writeInt32LE(head.length + calculateObjectSize(body), 0)
  head.writeInt32LE(request, 8)
  head.writeInt32LE(old ? OP_REPLY : OP_MSG, 12)
  if (old) head.writeInt32LE(1, 32)
  socket.write(Buffer.concat([head, text]))
}

const server = require('net').createServer((socket) => {
  let unread = Buffer.alloc(0)
  socket.on('error', () => {})
  socket.on('data', (data) => {
    unread = Buffer.concat([unread, data])
    while (unread.length >= 4 && unread.length >= unread.readInt32LE(0)) {
      const message = unread.subarray(0, unread.readInt32LE(0))
      unread = unread.subarray(message.length)
      const old = message.readInt32LE(12) === OP_QUERY
      const command = old ? deserialize(message.subarray(message.indexOf(0, 20) + 9)) : commandOf(message)
      const name = Object.keys(command)[0]
      if (!/^(hello|ismaster)$/i.test(name)) console.log(name)
      reply(socket, message.readInt32LE(4), old, answerTo(command))
    }
  })
})
server.listen(0, '127.0.0.1', () => console.log(`port ${server.address().port}`))
