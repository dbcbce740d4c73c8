// Finds servers, sockets, workers, queues and database clients when they are made, whichever way
// their library was loaded (require, import, a bundle): all of them are EventEmitters, and each
// EventEmitter calls EventEmitter.init.  Libraries are known by the methods of their classes.
//
// Nothing is kept alive, no listener is added, and no class is changed.
'use strict'

const { ChildProcess } = require('child_process')
const EventEmitter = require('events')
const net = require('net')
const { Worker } = require('worker_threads')

// A list of objects that forgets those that are collected.
class Instances {
  constructor () {
    this.refs = []
    this.limit = 64
    this.added = 0 // how many, ever
  }

  add (object) {
    if (this.refs.length >= this.limit) {
      this.refs = this.refs.filter((ref) => ref.deref() !== undefined)
      this.limit = Math.max(64, 2 * this.refs.length)
    }
    this.refs.push(new WeakRef(object))
    this.added++
  }

  all () {
    // Once each: in Node.js 18 a Duplex is initialised twice.
    const alive = new Set(this.refs.map((ref) => ref.deref()))
    alive.delete(undefined)
    return [...alive]
  }
}

// Whether a prototype has all these, its own or inherited; accessors are not called.
function has (prototype, ...names) {
  return names.every((name) => name in prototype)
}

// kind -> how its classes are known.
const KINDS = {
  server: (prototype) => prototype instanceof net.Server || prototype === net.Server.prototype,
  socket: (prototype) => prototype instanceof net.Socket || prototype === net.Socket.prototype,
  thread: (prototype) => prototype instanceof Worker || prototype === Worker.prototype,
  child: (prototype) => prototype === ChildProcess.prototype,
  session: (prototype, name) => name === 'ServerHttp2Session' && has(prototype, 'goaway', 'close'),
  worker: (prototype) => has(prototype, 'processJob', 'waitUntilReady', 'pause', 'resume', 'close'),
  // BullMQ's queues, queue events, flow producers and schedulers; not what is inside of them since 6.
  queue: (prototype) => has(prototype, 'waitUntilReady', 'Job', 'close', 'disconnect'),
  websocket: (prototype) => has(prototype, 'terminate', 'ping', 'pong', 'send', 'readyState'),
  engineSocket: (prototype) => has(prototype, 'setTransport', 'sendPacket', 'getAvailableUpgrades', 'close'),
  websocketServer: (prototype) => has(prototype, 'handleUpgrade', 'completeUpgrade', 'shouldHandle'),
  pgPool: (prototype) => has(prototype, 'connect', 'query', 'end', 'totalCount', 'idleCount'),
  pgClient: (prototype) => has(prototype, 'escapeIdentifier', 'query', 'end', 'connect'),
  mysqlPool: (prototype) => has(prototype, 'getConnection', 'releaseConnection', 'promise', 'end'),
  mysqlConnection: (prototype) => has(prototype, 'changeUser', 'ping', 'promise', 'end'),
  mongo: (prototype) => has(prototype, 'startSession', 'withSession', 'db', 'close', 'connect'),
  ioredis: (prototype) => has(prototype, 'setStatus', 'flushQueue', 'quit', 'disconnect'),
  redis: (prototype) => has(prototype, 'isOpen', 'isReady', 'sendCommand', 'duplicate')
}

function kindOf (prototype) {
  try {
    const name = prototype.constructor && prototype.constructor.name
    return Object.keys(KINDS).find((kind) => KINDS[kind](prototype, name)) || null
  } catch {
    return null // an accessor of the application's own fails, or a proxy: it is none of ours
  }
}

function watch (guard, onNewClass) {
  const found = {}
  for (const kind of Object.keys(KINDS)) found[kind] = new Instances()
  const known = new WeakMap() // prototype -> kind, or null

  const note = guard('finding servers and workers', (object) => {
    const prototype = Object.getPrototypeOf(object)
    if (prototype === null) return
    let kind = known.get(prototype)
    if (kind === null) return
    if (kind === undefined) {
      kind = kindOf(prototype)
      known.set(prototype, kind)
      if (kind === null) return
      onNewClass(kind, prototype)
    }
    found[kind].add(object)
  })

  const init = EventEmitter.init
  EventEmitter.init = function (options) {
    const result = Reflect.apply(init, this, [options])
    note(this)
    return result
  }
  return found
}

module.exports = { watch }
