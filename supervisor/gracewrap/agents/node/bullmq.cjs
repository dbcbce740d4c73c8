// BullMQ: the jobs that the workers of this process work on, and taking no more of them.
//
// Where a worker keeps its jobs: since 5.60 or so in lockManager.trackedJobs, a Map by id; before
// that in a Set that it hands to startLockExtenderTimer() once, when it starts.
'use strict'

const MOST_IDS = 32

function create (found, guard, trouble) {
  const sets = new WeakMap() // worker -> its jobs, before there was a lockManager
  const paused = new WeakSet() // those that we have paused

  const onNewClass = guard('BullMQ', (prototype) => {
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
    const tracked = worker.lockManager && worker.lockManager.trackedJobs
    if (tracked instanceof Map) return [...tracked.keys()]
    if (sets.has(worker)) return [...sets.get(worker)].map(({ job }) => job.id)
    if (worker.running || worker.mainLoopRunning) {
      trouble('this version of BullMQ is not known: its jobs are not counted')
    }
    return []
  }

  const count = guard('counting jobs', () => {
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

  return {
    onNewClass,
    count,

    // These workers only, never the queue: another instance goes on with it.
    drain: guard('pausing workers', () => {
      for (const worker of found.worker.all()) {
        if (worker.paused || worker.closing) continue
        paused.add(worker)
        Promise.resolve(worker.pause(true)).catch(() => {})
      }
    }),

    undrain: guard('resuming workers', () => {
      for (const worker of found.worker.all()) {
        if (paused.delete(worker) && !worker.closing) worker.resume()
      }
    })
  }
}

module.exports = { create }
