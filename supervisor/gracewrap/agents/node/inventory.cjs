// What the agent looks after in this process, for `gracewrap check --agent`.
'use strict'

const fs = require('fs')
const path = require('path')
const { isHandled } = require('./signals.cjs')

const MOST = 32 // of each list: a message has its bounds
const LIBRARIES = new Set([
  'express', 'fastify', 'hono', '@hono/node-server', 'koa', '@nestjs/core', 'next', 'ws', 'socket.io',
  'bullmq', 'bull', 'pg', 'mysql2', 'mongoose', 'mongodb', 'ioredis', 'redis', '@redis/client', '@prisma/client'
])
// Those that the agent knows from inside, and the major versions that it has been tested with.
const TESTED = {
  bullmq: [4, 5, 6], ws: [8], pg: [8], ioredis: [5, 6], mysql2: [3], mongodb: [7], '@redis/client': [6]
}
// kind of instances.cjs -> its name for people, and its library.
const CLIENTS = {
  queue: ['BullMQ queue object', 'bullmq'], // its schedulers are such too
  pgPool: ['pg pool', 'pg'],
  pgClient: ['pg client', 'pg'],
  mysqlPool: ['mysql2 pool', 'mysql2'],
  mysqlConnection: ['mysql2 connection', 'mysql2'],
  mongo: ['MongoDB client', 'mongodb'],
  ioredis: ['ioredis client', 'ioredis'],
  redis: ['redis client', '@redis/client']
}
const OTHERS = { worker: 'bullmq', websocketServer: 'ws' }

function versionIn (folder) {
  try {
    const { name, version } = JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8'))
    return { name: String(name), version: String(version) }
  } catch {
    return null
  }
}

// The folder of a library as the program would find it; for one that is loaded as an ES module.
function folderOf (name) {
  let folder = path.resolve(process.argv[1] ? path.dirname(process.argv[1]) : '.')
  for (;;) {
    const there = path.join(folder, 'node_modules', name)
    if (fs.existsSync(there)) return there
    if (path.dirname(folder) === folder) return null
    folder = path.dirname(folder)
  }
}

function described (name, version) {
  if (!version) return `${name} (version unknown)`
  const tested = TESTED[name]
  if (tested === undefined || tested.includes(parseInt(version, 10))) return `${name} ${version}`
  return `${name} ${version} (this version is not tested)`
}

// What require() has loaded, and that of which there are instances.
function libraries (found) {
  const folders = new Map()
  for (const file of Object.keys(require.cache)) {
    const match = /^(.*[\\/]node_modules[\\/]((?:@[^\\/]+[\\/])?[^\\/]+))[\\/]/.exec(file)
    if (match !== null) folders.set(match[1], match[2])
  }
  const named = new Set()
  const texts = new Set()
  for (const [folder, called] of folders) {
    const { name, version } = versionIn(folder) || { name: called }
    if (!LIBRARIES.has(name)) continue
    named.add(name)
    texts.add(described(name, version))
  }
  const kinds = [...Object.keys(OTHERS), ...Object.keys(CLIENTS)].filter((kind) => found[kind].all().length > 0)
  for (const name of new Set(kinds.map((kind) => OTHERS[kind] || CLIENTS[kind][1]))) {
    if (named.has(name)) continue
    const folder = folderOf(name)
    const known = folder && versionIn(folder)
    texts.add(described(name, known && known.version))
  }
  return [...texts].sort()
}

function counted (kind, found) {
  const number = found[kind].all().length
  return `${number} ${CLIENTS[kind][0]}${number === 1 ? '' : 's'}`
}

function serverName (server) {
  const address = server.address()
  const where = address === null || typeof address === 'string' ? address : `port ${address.port}`
  const name = server.constructor && server.constructor.name
  return `${where || 'a descriptor'}${name ? ` (${name})` : ''}`
}

function inventory (found) {
  const lists = {
    handlers: process.eventNames().filter((name) => /^SIG/.test(String(name)) && isHandled(name)),
    servers: found.server.all().filter((server) => server.listening).map(serverName),
    workers: found.worker.all().map((worker) => `queue ${worker.name}`),
    clients: Object.keys(CLIENTS).filter((kind) => found[kind].all().length > 0).map((kind) => counted(kind, found)),
    libraries: libraries(found)
  }
  for (const name of Object.keys(lists)) {
    lists[name] = lists[name].slice(0, MOST).map((one) => String(one).slice(0, 200))
  }
  return { script: String(process.argv[1] || '').slice(0, 1000), ...lists }
}

module.exports = { inventory }
