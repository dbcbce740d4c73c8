// What the agent does, put together: it answers gracewrap's questions, and acts on its orders.
'use strict'

const { isMainThread } = require('worker_threads')
const bullmq = require('./bullmq.cjs')
const finishing = require('./finish.cjs')
const http = require('./http.cjs')
const instances = require('./instances.cjs')
const { unheard } = require('./options.cjs')
const { ends, isHandled, listen, nameOf, takeLast, whenOneComes } = require('./signals.cjs')
const { createMain, createWorker } = require('./threads.cjs')
const waiting = require('./waits.cjs')
const websocket = require('./websocket.cjs')

const FOREVER = 1 << 30 // ms
const LOOK_EVERY = 250 // ms
const TELL_EVERY = 100 // ms

// PM2 passes no signal on: it sends each of its processes one of its own, and SIGKILL soon after.
// It tells them their number (pm_id), and its settings for them, in the environment; in a cluster
// not before the application starts.
function pm2 () {
  const { pm_id: id, PM2_KILL_SIGNAL, PM2_KILL_TIMEOUT, kill_timeout: limit } = process.env
  if (id === undefined) return null
  return { signal: PM2_KILL_SIGNAL || 'SIGINT', ms: Number(limit || PM2_KILL_TIMEOUT) || 1600 }
}

function begin (channel) {
  const { send, trouble, guard } = channel
  let jobs = null
  const found = instances.watch(guard, (kind, prototype) => {
    if (kind === 'worker') jobs.onNewClass(prototype)
  })
  jobs = bullmq.create(found, guard, trouble)
  const requests = http.create(found, guard)
  const waits = waiting.create(found, guard)
  const finishThread = (...order) => finishing.finishThread(found, requests, jobs, ...order)
  const threads = isMainThread ? createMain(found, guard) : createWorker(hasWork, finishThread, guard)
  let onSignal = null
  let told = 0 // how much was in flight as gracewrap has heard last

  function count (exits) {
    const { requests: open, streams, finished } = requests.count(exits) || { requests: 0, streams: 0 }
    const websockets = websocket.open(found).length
    const active = jobs.count() || []
    told = open + active.reduce((sum, queue) => sum + queue.active, 0)
    return { requests: open, streams, websockets, jobs: active, finished: finished || undefined }
  }

  // Killed from outside, the process has no last word: what it has said before stands until it says
  // something else.
  function tellWhatEnds () {
    const tell = guard('what has ended', () => {
      const before = told
      if (before === 0) return
      const now = count()
      if (told !== before) send({ type: 'in_flight', id: 0, ...now })
    })
    setInterval(() => setImmediate(tell), TELL_EVERY).unref()
  }

  // What is in flight when the process exits is cut, whoever ends it; also if it does by a signal that it
  // sends itself, as NestJS does.
  let watchesExit = false
  function watchExit () {
    if (watchesExit) return
    watchesExit = true
    let exception // the last one that nothing has caught: the application may still go on after it
    listen('uncaughtExceptionMonitor', (error, origin) => { exception = origin })
    const lastCount = guard('the last count', (status) => {
      send({ type: 'exit', ...count(true), exception: status ? exception : undefined })
    })
    listen('exit', lastCount)
    if (isMainThread) tellWhatEnds()
    const { kill } = process
    process.kill = function (pid, signal) {
      const isOwn = [process.pid, 0, -process.pid].includes(Number(pid)) // or that of all its group
      if (isOwn && ends(signal)) lastCount(0)
      return kill.call(this, pid, signal)
    }
  }

  // Only `gracewrap check --agent` asks for it, so its code is not loaded in a run.
  const find = guard('the inventory', () => {
    const { inventory } = require('./inventory.cjs')
    jobs.count() // says if the version is not known
    send({ type: 'found', ...inventory(found) })
  })

  function drain () {
    jobs.drain()
    requests.drain()
  }

  // Whether there is anything that a signal would cut.
  function hasWork () {
    return requests.hasServers() || found.worker.all().some((worker) => !worker.closing) ||
      finishing.children().length > 0 || (isMainThread && threads.areBusy())
  }

  // Say who will act on the stop signal.  Where the application does not, and would be cut, this
  // does: not before now, for until then its listeners are its own.
  function prepare (signal, deadline, streams) {
    if (!isMainThread || onSignal !== null) return onSignal === null ? 'none' : 'agent'
    const manager = pm2()
    const comes = manager === null ? signal : manager.signal
    if (isHandled(comes)) return 'own'
    if (!hasWork()) return 'none'
    const last = takeLast(comes)
    onSignal = guard('finishing', () => {
      process.removeListener(comes, onSignal)
      send({ type: 'state', handler: 'agent', heard: true, ...count() })
      if (isHandled(comes)) return // the application has one after all
      listen(comes, () => {}) // once is enough
      if (manager !== null) deadline = Math.min(deadline, Date.now() + manager.ms)
      finishing.finish(found, requests, jobs, threads, last, comes, deadline, streams).catch((error) => {
        trouble(`finishing failed: ${error && error.message}`)
        process.exit(process.exitCode || 0)
      })
    })
    listen(comes, onSignal)
    return 'agent'
  }

  // Where it is known that the signal has not come yet, gracewrap may send it if whoever should have
  // passed it on is gone.  PM2 sends one of its own.  Without a handler this would be gone as well.
  let isAwaited = false // the application's handler has not been called, as far as we know
  function state (handler, isPassedOn) {
    const isKnown = isMainThread && pm2() === null && (handler !== 'own' || isPassedOn)
    if (isKnown && handler === 'own') {
      isAwaited = true
      whenOneComes(guard, () => {
        isAwaited = false
        send({ type: 'state', handler, heard: true, ...count() })
      })
    }
    return { type: 'state', handler, ...(isKnown && { heard: false }), ...count() }
  }

  // A signal that came before the question is heard of before the answer: Node reads signals last, at
  // the latest in its next turn.
  function answer (id) {
    const now = () => send({
      type: 'in_flight', id, ...count(), waits: waits.count() || undefined, heard: isAwaited ? false : undefined
    })
    if (isAwaited) setImmediate(() => setImmediate(guard('answering', now)))
    else now()
  }

  async function stop (isPassedOn, ...order) {
    let handler = prepare(...order)
    if (handler === 'none' && isMainThread) {
      await threads.ask()
      handler = prepare(...order)
    }
    send(state(handler, isPassedOn))
    if (handler !== 'none') return
    // What has just been started has nothing to finish yet, and may be serving when the signal comes.
    const timer = setInterval(guard('preparing', () => {
      if (!isMainThread) return threads.announce()
      const now = prepare(...order)
      if (now === 'none') return
      clearInterval(timer)
      send(state(now, false))
    }), LOOK_EVERY)
    timer.unref()
  }

  for (const file of isMainThread ? unheard() : []) {
    trouble(`NODE_OPTIONS in ${file} has no effect, for the agent is in it; set it in the environment`)
  }

  channel.listen((message) => {
    switch (message.type) {
      case 'ask':
        answer(message.id)
        break
      case 'find':
        find()
        break
      case 'drain':
        drain()
        send({ type: 'state', handler: 'none' })
        break
      case 'undrain':
        jobs.undrain()
        requests.undrain()
        send({ type: 'state', handler: 'none' })
        break
      case 'stop':
        drain()
        waits.begin()
        watchExit()
        if (!isMainThread) threads.announce()
        stop(message.passed_on, nameOf(message.signal), Date.now() + (message.deadline_ms || FOREVER),
          message.streams_ms).catch((error) => trouble(`the stop: ${error && error.message}`))
        break
      default: // of a later version
    }
  })
}

module.exports = { begin }
