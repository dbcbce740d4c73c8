// HTTP/1.1, HTTPS and HTTP/2: what is in flight, and moving clients away while the server still
// serves.  All of it is read off the sockets when it is asked for: a request costs nothing.
'use strict'

const net = require('net')
const requestStart = require('diagnostics_channel').channel('http.server.request.start')
const websocket = require('./websocket.cjs')

const IDLE_WHILE_SERVING = 3000 // ms without a byte after which a kept-alive connection is closed
const IDLE_WHEN_FINISHING = 750
const LOOK_EVERY = 250
const SILENT = 1000 // ms without a byte after which an event stream has nothing to say
const LEFT_OPEN = 1000 // ms after which the client need not close its side any more
const KEEP_ALIVE = /keep-alive/i

// The connections that clients have opened to servers of this process.
function connections (found) {
  return found.socket.all().filter((socket) => socket.server instanceof net.Server && !socket.destroyed)
}

function isEventStream (response) {
  return typeof response._header === 'string' && /^content-type: *text\/event-stream/im.test(response._header)
}

// The responses that are being worked on.
function responses (found) {
  return connections(found).filter((socket) => socket.parser).map((socket) => socket._httpMessage).filter(Boolean)
}

// Whether the kernel has all of it.
function isSent (response) {
  return response.writableEnded && (!response.socket || response.socket.writableLength === 0)
}

function http2Streams (session) { // the Map of those that are open
  const symbol = Object.getOwnPropertySymbols(session).find((one) => one.description === 'state')
  const state = symbol && session[symbol]
  if (!state || typeof state.streams.size !== 'number') throw new Error('this HTTP/2 is not known')
  return state.streams
}

// The headers that writeHead() was given without any set before: an array in two forms, or an
// object.  Undefined if they say nothing of keep-alive.
function withClose (headers) {
  if (!headers || !Object.keys(headers).length) return undefined
  const isOne = (name, value) => /^connection$/i.test(name) && KEEP_ALIVE.test(value)
  if (!Array.isArray(headers)) {
    const name = Object.keys(headers).find((name) => isOne(name, headers[name]))
    return name && { ...headers, [name]: 'close' }
  }
  if (Array.isArray(headers[0])) {
    return headers.map(([name, value]) => [name, isOne(name, value) ? 'close' : value])
  }
  return headers.map((value, at) => at % 2 === 1 && isOne(headers[at - 1], value) ? 'close' : value)
}

// How much has been sent to a client.  An HTTP/2 stream has no count of its own.
function written (stream) {
  const socket = stream.session ? stream.session.socket : stream.socket
  return socket ? socket.bytesWritten : 0
}

function isEventStream2 (stream) {
  const type = stream.sentHeaders && stream.sentHeaders['content-type']
  return /^text\/event-stream/i.test(type) && !stream.writableEnded
}

function create (found, guard) {
  const seen = new WeakMap() // connection -> {bytes, since}
  const ended = new WeakMap() // connection -> when it was, because it was idle
  let timer = null
  let limit = IDLE_WHILE_SERVING
  let begun = 0 // requests in flight when the drain began, and those of HTTP/1.1 since then

  const open2 = guard('counting HTTP/2 requests', () => found.session.all()
    .filter((session) => !session.destroyed)
    .flatMap((session) => [...http2Streams(session).values()]))

  const count = guard('counting requests', (exits = false) => {
    const [open, more] = [responses(found).filter((one) => !exits || !isSent(one)), open2() || []]
    const streams = open.filter(isEventStream).length + more.filter(isEventStream2).length
    const all = open.length + more.length
    const polls = websocket.polls(found) // they are counted as WebSockets are
    const requests = all - open.filter((one) => polls.has(one)).length
    return { requests, streams, finished: timer === null ? 0 : Math.max(0, begun - all), all }
  })

  const sayClose = guard('Connection: close', (response, headers) => {
    if (KEEP_ALIVE.test(response.getHeader('connection'))) response.setHeader('Connection', 'close')
    return withClose(headers)
  })

  // Ask the client not to use the connection again; also if the application is going to say that it
  // may, as proxies do.
  const last = guard('Connection: close', (response) => {
    if (response.headersSent) return
    response.shouldKeepAlive = false
    const store = response._storeHeader
    response._storeHeader = function (firstLine, headers) {
      return store.call(this, firstLine, sayClose(this, headers) || headers)
    }
  })
  const onRequest = ({ response }) => {
    begun++
    last(response)
  }

  function idleFor (socket, now) {
    const before = seen.get(socket)
    const bytes = socket.bytesRead + socket.bytesWritten
    if (before === undefined || before.bytes !== bytes || socket._httpMessage) {
      seen.set(socket, { bytes, since: now })
      return 0
    }
    return now - before.since
  }

  function isOld (session, now) {
    if (!seen.has(session)) seen.set(session, { since: now })
    return now - seen.get(session).since >= IDLE_WHEN_FINISHING
  }

  const look = guard('closing idle connections', () => {
    const now = Date.now()
    for (const socket of connections(found).filter((one) => one.parser)) {
      if (ended.has(socket)) {
        if (now - ended.get(socket) >= LEFT_OPEN) socket.destroy()
      } else if (!socket.writableEnded && idleFor(socket, now) >= limit) {
        ended.set(socket, now)
        socket.end()
      }
    }
    for (const session of found.session.all().filter((one) => !one.destroyed && !one.closed)) {
      // GOAWAY; what is open is finished.  A new session is given time for its first request.
      if (http2Streams(session).size > 0 || isOld(session, now)) session.close()
    }
  })

  // Responses of HTTP/1.1, and streams of HTTP/2: both have end().
  function eventStreams () {
    const open = responses(found).filter((response) => isEventStream(response) && !response.writableEnded)
    return [...open, ...(open2() || []).filter(isEventStream2)]
  }

  function openConnections () {
    // One that is ended still has bytes to send until it is finished.
    const open = connections(found).filter((socket) => socket.parser && !socket.writableFinished)
    return [...open, ...found.session.all().filter((session) => !session.destroyed)]
  }

  return {
    count,

    drain () {
      if (timer !== null) return
      begun = (count() || { all: 0 }).all
      requestStart.subscribe(onRequest)
      responses(found).forEach(last)
      // Not in the timer itself: if the process was busy, requests have come that Node reads only
      // after its timers, and their connections look idle.
      timer = setInterval(() => setImmediate(look), LOOK_EVERY)
      timer.unref()
      look()
    },

    undrain () {
      if (timer === null) return
      requestStart.unsubscribe(onRequest)
      clearInterval(timer)
      timer = null
      limit = IDLE_WHILE_SERVING
    },

    // Servers that listen no more, or never did and are given their connections, count as well.
    hasServers () {
      return found.server.all().some((server) => server.listening) || connections(found).length > 0
    },

    // Whether a client may still be answered: a request is in flight, or a connection is young.
    isBusy () {
      limit = IDLE_WHEN_FINISHING
      look()
      const { requests } = count() || { requests: 0 }
      return requests > 0 || openConnections().length > 0
    },

    // Listen no more.  What has been accepted is served: http.Server.close() would cut clients
    // that are about to send.
    close () {
      for (const server of found.server.all()) {
        if (server.listening) net.Server.prototype.close.call(server)
      }
    },

    eventStreams,

    // End event streams that have nothing to say, which never end by themselves.
    endSilentStreams (all) {
      const now = Date.now()
      for (const stream of eventStreams()) {
        const bytes = written(stream)
        const before = seen.get(stream)
        if (before === undefined || before.bytes !== bytes) seen.set(stream, { bytes, since: now })
        else if (all || now - before.since >= SILENT) stream.end()
      }
    }
  }
}

module.exports = { create }
