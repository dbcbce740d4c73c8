// What an application without a handler for the stop signal would do in it: let requests and jobs
// end, then close queues, then database clients, then exit.
'use strict'

const { areBusy, close, closeListeners } = require('./clients.cjs')
const { LOOK_EVERY, each, sleep, until } = require('./until.cjs')
const websocket = require('./websocket.cjs')

const LISTEN_ON = 500 // ms
const SPREAD = 1000 // ms over which streams are ended, unless gracewrap says another time
const CLIENT_LIMIT = 2000 // ms for all clients of databases together: there is no work any more

function children () {
  const cluster = require('cluster')
  return Object.values((cluster.isPrimary && cluster.workers) || {})
}

// Many an application starts a worker for each that ends.  Such a one would take requests that our
// exit cuts: it is stopped before it has begun, and killed at the end.
function holdNewChildren () {
  const held = new Set()
  require('cluster').on('fork', (worker) => {
    held.add(worker)
    worker.process.kill('SIGSTOP')
  })
  return () => held.forEach((worker) => worker.process.kill('SIGKILL'))
}

async function finishChildren (signal) {
  await each(children(), (worker) => new Promise((resolve) => {
    worker.process.once('exit', resolve)
    worker.process.kill(signal)
  }))
}

// Connections that wait in the kernel when a listening socket is closed are reset.  Each turn of the
// loop accepts some of them, perhaps only one.
async function acceptWaiting (found, limit) {
  let before = -1
  while (found.socket.added !== before && Date.now() < limit) {
    before = found.socket.added
    await new Promise(setImmediate)
  }
}

async function finishHttp (found, http, deadline, streams) {
  // Whoever sends clients here may be late to notice: they are still served, and asked to leave.
  await sleep(Math.min(LISTEN_ON, (deadline - Date.now()) / 10))
  const half = Date.now() + (deadline - Date.now()) / 2
  await acceptWaiting(found, half)
  http.close()
  await until(() => {
    if (streams === undefined) http.endSilentStreams(Date.now() >= half)
    return !http.isBusy()
  })
}

function closeStream (stream) {
  if (stream.end) stream.end()
  else websocket.close(stream)
}

// Close what open() returns over so many milliseconds, evenly: their clients all come back, and to
// the instances that are left.
async function spread (open, within) {
  const began = Date.now()
  let closed = 0
  for (;;) {
    const now = open()
    const part = within > 0 ? Math.min(1, (Date.now() - began) / within) : 1
    const due = Math.ceil((closed + now.length) * part) - closed
    now.slice(0, Math.max(0, due)).forEach(closeStream)
    closed += Math.max(0, due)
    if (part === 1 || now.length === 0) return
    await sleep(LOOK_EVERY)
  }
}

// WebSockets, which never end by themselves, and event streams if gracewrap says how long they are
// waited for: *streams* is that in milliseconds, or "wait".
async function closeStreams (found, http, deadline, streams) {
  const left = deadline - Date.now()
  const sockets = () => websocket.open(found)
  const all = streams === undefined ? sockets : () => [...sockets(), ...http.eventStreams()]
  const longest = Math.max(0, left - Math.min(2000, left / 4)) // then there is time to say goodbye
  if (streams === 'wait') await until(() => Date.now() >= deadline - left + longest || all().length === 0)
  await spread(all, streams === 'wait' ? 0 : Math.min(streams === undefined ? SPREAD : streams, longest))
  const limit = Date.now() + 1000
  await until(() => Date.now() >= limit || sockets().length === 0)
}

// Finish what this thread has begun, and *others* beside it; then call *last*.
async function finishThread (found, http, jobs, deadline, streams, others = [], last = []) {
  await Promise.all([
    jobs.close(),
    finishHttp(found, http, deadline, streams),
    closeStreams(found, http, deadline, streams),
    ...others
  ])
  const clients = async () => {
    await closeListeners(found)
    await until(() => !areBusy(found)) // if they stay so, the exit closes them
    await close(found)
  }
  await Promise.race([Promise.all([clients(), each(last, (act) => act())]), sleep(CLIENT_LIMIT)])
}

async function finish (found, http, jobs, threads, last, signal, deadline, streams) {
  const killNewChildren = children().length > 0 ? holdNewChildren() : () => {}
  const others = [finishChildren(signal), threads.finish(deadline, streams)]
  await finishThread(found, http, jobs, deadline, streams, others, last)
  killNewChildren()
  process.exit(process.exitCode || 0)
}

module.exports = { children, finish, finishThread }
