// Whether the application has a handler for a signal.
'use strict'

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

module.exports = { isHandled, nameOf }
