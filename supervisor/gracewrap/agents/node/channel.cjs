// The connection to gracewrap: a line of JSON for each message, both ways (docs/agents.md).
//
// It keeps no process alive, and when it is gone nothing happens.
'use strict'

const net = require('net')

const LONGEST = 1 << 16 // characters of a line

function threadId () {
  const { isMainThread, threadId } = require('worker_threads')
  return isMainThread ? 0 : threadId
}

function connect (path) {
  const told = new Set()
  let socket = net.connect({ path })
  let unread = ''
  let onMessage = null

  function gone () {
    if (socket !== null) socket.destroy()
    socket = null
  }

  function send (message) {
    try {
      if (socket !== null) socket.write(JSON.stringify(message) + '\n')
    } catch {
      gone()
    }
  }

  // Say what is wrong, once.
  function trouble (why) {
    if (told.has(why)) return
    told.add(why)
    send({ type: 'trouble', why: String(why).slice(0, 200) })
  }

  // Return a function that calls *act* until it throws; then that part is switched off.
  function guard (part, act) {
    let off = false
    return function (...args) {
      if (off) return undefined
      try {
        return act(...args)
      } catch (error) {
        off = true
        trouble(`${part} is switched off: ${error && error.message}`)
        return undefined
      }
    }
  }

  function received (text) {
    unread += text
    const lines = unread.split('\n')
    unread = lines.pop()
    if (unread.length > LONGEST) return gone()
    for (const line of lines) {
      let message = null
      try {
        message = JSON.parse(line)
      } catch {
        return gone()
      }
      if (onMessage !== null && message !== null) onMessage(message)
    }
  }

  socket.setEncoding('utf8')
  socket.on('data', guard('the connection to gracewrap', received))
  socket.on('error', gone)
  socket.on('close', gone)
  socket.unref()
  send({
    type: 'hello', version: 1, runtime: `node ${process.versions.node}`, pid: process.pid, thread: threadId()
  })
  return { send, trouble, guard, listen (act) { onMessage = guard('the agent', act) } }
}

module.exports = { connect }
