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

// Listeners that libraries add for applications without a handler, known by their text: they put their own
// things in order, and know nothing of the rest.
const OF_LIBRARIES = [
  /^(?!.*(exit|kill)).*\.debug\(['"]OpenTelemetry SDK terminated['"]\)/s, // @opentelemetry/auto-instrumentations-node/register
  /stop\(\) threw during \$\{\w+\} shutdown/ // Apollo Server: then it sends itself the signal
]

function ofLibraries (name) {
  return process.listeners(name).filter((one) => {
    const text = Function.prototype.toString.call(one)
    return OF_LIBRARIES.some((known) => known.test(text))
  })
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

// Whether the application has a handler.
function isHandled (name) {
  return process.listenerCount(name) > ofSignalExit(name) + ofLibraries(name).length
}

// Listen on the process, however many do: Node.js would warn of the eleventh.
function listen (name, listener) {
  const most = process.getMaxListeners()
  process.setMaxListeners(0)
  process.on(name, listener)
  process.setMaxListeners(most)
}

// Whether a signal, as process.kill() takes it, ends this process.
function ends (signal = 'SIGTERM') {
  const name = typeof signal === 'number' ? nameOf(signal) : signal
  return name === 'SIGKILL' ||
    (['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM'].includes(name) && process.listenerCount(name) === 0)
}

// Remove the listeners of libraries; return them as functions, to be called when all work is done.
function takeLast (name) {
  const listeners = ofLibraries(name)
  listeners.forEach((one) => process.removeListener(name, one))
  return listeners.map((one) => () => one.call(process, name))
}

module.exports = { ends, isHandled, listen, nameOf, takeLast, whenOneComes }
