// Worker threads that serve or work: a signal reaches the main thread only.  So each says there
// whether it has something to finish, and is told when to.
//
// Nothing of it is made before a stop, and it keeps no thread alive.
'use strict'

const { BroadcastChannel, threadId } = require('worker_threads')
const { until } = require('./until.cjs')

const NAME = 'gracewrap.agent'
const ANSWER = 250 // ms; one that computes, or waits for work as those of a pool do, says nothing

function open (onMessage) {
  const channel = new BroadcastChannel(NAME)
  channel.onmessage = ({ data }) => onMessage(data)
  channel.unref()
  return channel
}

// The main thread's side.
function createMain (found, guard) {
  const states = new Map() // thread -> "idle", "busy" or "done"
  let channel = null
  let order = null
  let onAnswer = () => {}

  function alive () {
    return found.thread.all().map((thread) => thread.threadId).filter((id) => id > 0)
  }

  const heard = guard('worker threads', ({ thread, state }) => {
    if (thread === undefined) return
    states.set(thread, state)
    if (state === 'busy' && order !== null) channel.postMessage(order)
    onAnswer()
  })

  function areBusy () {
    return alive().some((id) => states.get(id) === 'busy')
  }

  // Wait until each has said whether it has something to finish.
  async function ask () {
    if (alive().length === 0) return
    if (channel === null) channel = open(heard)
    channel.postMessage({ ask: true })
    await new Promise((resolve) => {
      setTimeout(resolve, ANSWER).unref()
      onAnswer = () => {
        if (alive().every((id) => states.has(id))) resolve()
      }
      onAnswer()
    })
  }

  return {
    ask,
    areBusy,

    async finish (deadline, streams) {
      order = { finish: [deadline, streams] }
      await ask()
      if (channel === null) return
      channel.postMessage(order)
      await until(() => !areBusy())
    }
  }
}

// A worker thread's side.
function createWorker (hasWork, finish, guard) {
  let channel = null
  let said = ''

  function say (state) {
    said = state
    channel.postMessage({ thread: threadId, state })
  }

  const heard = guard('the main thread', (message) => {
    if (message.ask && (said === 'idle' || said === 'busy')) say(hasWork() ? 'busy' : said)
    if (!message.finish || said !== 'busy') return
    said = 'finishing'
    finish(...message.finish).catch(() => {}).then(() => say('done'))
  })

  return {
    // Say so if there is something to finish, or if nothing has been said yet.
    announce () {
      if (channel === null) channel = open(heard)
      const state = hasWork() ? 'busy' : 'idle'
      if (said === '' || (said === 'idle' && state === 'busy')) say(state)
    }
  }
}

module.exports = { createMain, createWorker }
