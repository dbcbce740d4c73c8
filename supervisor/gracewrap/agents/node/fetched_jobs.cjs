// BullMQ jobs that the application takes itself, by worker.getNextJob(), and moves itself when they are
// done.  The worker knows nothing of them afterwards.
'use strict'

const MOVES = ['moveToCompleted', 'moveToFailed', 'moveToDelayed', 'moveToWait', 'moveToWaitingChildren']
const NOTHING_FOR = 1000 // ms that a call waits for a job that does not come, as it would on an empty queue
const AT_LEAST = 50 // ms, of a call that does not wait: a loop of those must not keep the process busy

function wrap (object, name, around) {
  const original = object[name]
  if (typeof original !== 'function') return
  const value = function (...args) { return around(() => original.apply(this, args), ...args) }
  Object.defineProperty(object, name, { value, configurable: true, writable: true })
}

// *isHeld* tells whether a worker is to take no jobs.
function create (isHeld) {
  const fetched = new WeakMap() // worker -> Map: job -> when its lock ends, and so it is another's
  const patched = new WeakSet()

  function watch (worker, job) {
    const open = fetched.get(worker) || new Map()
    fetched.set(worker, open)
    open.set(job, Date.now() + worker.opts.lockDuration)
    wrap(job, 'extendLock', (extend, token, ms) => {
      if (open.has(job)) open.set(job, Date.now() + ms)
      return extend()
    })
    for (const name of MOVES) {
      wrap(job, name, async (move) => {
        try {
          return await move()
        } finally {
          open.delete(job)
        }
      })
    }
  }

  return {
    // Watch getNextJob() of the class that has it.
    onNewClass (prototype) {
      let owner = prototype
      while (owner && !Object.hasOwn(owner, 'getNextJob')) owner = Object.getPrototypeOf(owner)
      if (!owner || patched.has(owner)) return
      patched.add(owner)
      const original = owner.getNextJob
      owner.getNextJob = async function (token, options, ...rest) {
        if (isHeld(this)) {
          const ms = options && options.block === false ? AT_LEAST : NOTHING_FOR
          await new Promise((resolve) => setTimeout(resolve, ms))
          if (isHeld(this)) return undefined
        }
        const job = await original.call(this, token, options, ...rest)
        if (job) watch(this, job)
        return job
      }
    },

    of (worker) {
      const open = fetched.get(worker) || new Map()
      for (const [job, until] of open) if (until < Date.now()) open.delete(job)
      return [...open.keys()]
    }
  }
}

module.exports = { create }
