// BullMQ: the jobs that the workers of this process work on, and taking no more of them.
//
// Where a worker keeps its jobs: since 5.60 or so in lockManager.trackedJobs, a Map by id; before
// that in a Set that it hands to startLockExtenderTimer() once, when it starts.
'use strict'

const fetchedJobs = require('./fetched_jobs.cjs')
const { each, until } = require('./until.cjs')

const MOST_IDS = 32
const WAITS_EVERY = 250 // ms

function create (found, guard, trouble) {
  const sets = new WeakMap() // worker -> its jobs, before there was a lockManager
  const held = new WeakMap() // worker that we have paused -> {ran, wanted: the application pauses it too}
  const wrapped = new WeakSet()
  const fetched = fetchedJobs.create((worker) => held.has(worker))

  const onNewClass = guard('BullMQ', (prototype) => {
    fetched.onNewClass(prototype)
    for (let one = prototype; one; one = Object.getPrototypeOf(one)) {
      if (Object.hasOwn(one, 'startLockExtenderTimer')) {
        const original = one.startLockExtenderTimer
        one.startLockExtenderTimer = function (jobs, ...rest) {
          if (jobs instanceof Set) sets.set(this, jobs)
          return original.call(this, jobs, ...rest)
        }
        return
      }
    }
  })

  function idsOf (worker) {
    return [...trackedBy(worker), ...fetched.of(worker).map((job) => job.id)]
  }

  function trackedBy (worker) {
    const tracked = worker.lockManager && worker.lockManager.trackedJobs
    if (tracked instanceof Map) return [...tracked.keys()]
    if (sets.has(worker)) return [...sets.get(worker)].map(({ job }) => job.id)
    if (worker.running || worker.mainLoopRunning) {
      trouble('this version of BullMQ is not known: its jobs are not counted')
    }
    return []
  }

  // Bull's queues are found by the scripts of their connections: they call no EventEmitter.init.
  function nameBull () {
    if (!found.ioredis.all().some(({ scriptsSet }) => scriptsSet && scriptsSet.takeLock)) return
    trouble('Bull is not known to the agent (BullMQ is): its jobs are not counted')
  }

  const count = guard('counting jobs', () => {
    nameBull()
    const queues = new Map()
    for (const worker of found.worker.all()) {
      const ids = idsOf(worker)
      const queue = queues.get(worker.name) || { queue: worker.name, active: 0, ids: [] }
      queue.active += ids.length
      queue.ids = [...queue.ids, ...ids].slice(0, MOST_IDS).map(String)
      queues.set(worker.name, queue)
    }
    return [...queues.values()]
  })

  async function jobsEnd (worker) {
    // In BullMQ 4 it never returns once a worker that is paused has asked for its next job.
    if (typeof worker.paused === 'boolean') return worker.whenCurrentJobsFinished()
    await until(() => idsOf(worker).length === 0)
  }

  // To the application a worker that we have paused is not: its own pause() would return at once, with
  // jobs in progress, and so handlers that exit then would cut them.
  function wrap (worker) {
    if (wrapped.has(worker)) return
    wrapped.add(worker)
    const { pause, resume, isPaused } = worker
    worker.pause = async function (doNotWaitActive) {
      const hold = held.get(this)
      if (!hold) return pause.call(this, doNotWaitActive)
      hold.wanted = true
      if (!doNotWaitActive) await jobsEnd(this)
      this.emit('paused')
    }
    worker.resume = function () {
      const hold = held.get(this)
      if (!hold) return resume.call(this)
      hold.wanted = false
    }
    worker.isPaused = function () {
      const hold = held.get(this)
      return hold ? hold.wanted : isPaused.call(this)
    }
  }

  function release (worker) {
    const hold = held.get(worker)
    if (!hold || !held.delete(worker) || worker.closing || hold.wanted) return
    // resume() would also start one that the application has not started (autorun: false).
    if (hold.ran || typeof worker.paused !== 'boolean') worker.resume()
    else worker.paused = false
  }

  function hold (worker) {
    if (worker.paused || worker.closing) return
    wrap(worker)
    Promise.resolve(worker.pause(true)).catch(() => {})
    held.set(worker, { ran: worker.running, wanted: false })
  }

  // Whether something in this process, such as a request, waits for a job of the worker's queue:
  // job.waitUntilFinished() listens for "completed:ID".  If nobody else works there, it waits for us.
  function isWaitedFor (worker) {
    return found.queue.all().some((one) => one.name === worker.name &&
      one.eventNames().some((name) => /^completed:/.test(String(name))))
  }

  const adjust = guard('pausing workers', () => {
    for (const worker of found.worker.all()) {
      if (isWaitedFor(worker)) release(worker)
      else hold(worker)
    }
  })
  let timer = null

  return {
    onNewClass,
    count,

    // Close all workers, once their jobs have ended.
    async close () {
      await each(found.worker.all(), async (worker) => {
        await until(() => fetched.of(worker).length === 0 && !isWaitedFor(worker))
        await worker.close()
      })
    },

    // These workers only, never the queue: another instance goes on with it.
    drain () {
      if (timer !== null) return
      timer = setInterval(adjust, WAITS_EVERY)
      timer.unref()
      adjust()
    },

    undrain: guard('resuming workers', () => {
      clearInterval(timer)
      timer = null
      found.worker.all().forEach(release)
    })
  }
}

module.exports = { create }
