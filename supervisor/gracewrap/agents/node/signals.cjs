// Whether the application has a handler for a signal, and whether one has come to it.
'use strict'

const { createHook, executionAsyncResource } = require('async_hooks')
const { signals } = require('os').constants

function nameOf (signum) {
  return Object.keys(signals).find((name) => signals[name] === signum)
}

// The listeners of signal-exit, which execa, ora and proper-lockfile load, are none: they end the
// process as the signal would, unless there are others.  What they call they call at any exit.
// Each loaded version keeps count of its own: up to 3 on process, 4 in a global symbol.
function ofSignalExit (name) {
  if (!['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGUSR2'].includes(name)) return 0
  return [process.__signal_exit_emitter__, globalThis[Symbol.for('signal-exit emitter')]]
    .map((emitter) => emitter && emitter.count)
    .filter(Number.isInteger)
    .reduce((sum, count) => sum + count, 0)
}

function isHandled (name) {
  return process.listenerCount(name) > ofSignalExit(name)
}

// Call *act* when a handler of the application is about to be called, whichever signal it is.  One more
// listener would be noticed: signal-exit counts them.  Until it comes this costs some of the speed.
function whenOneComes (guard, act) {
  const hook = createHook({
    before: guard('looking for signals', () => {
      const { constructor } = executionAsyncResource()
      if (!constructor || constructor.name !== 'Signal') return
      hook.disable()
      act()
    })
  })
  hook.enable()
}

module.exports = { isHandled, nameOf, whenOneComes }
