// Waiting for something in the process.
'use strict'

const LOOK_EVERY = 50 // ms

// Wait, and until Node has read what has come meanwhile: see drain() in http.cjs.
function sleep (ms) {
  return new Promise((resolve) => setTimeout(() => setImmediate(resolve), ms))
}

async function until (isDone) {
  while (!isDone()) await sleep(LOOK_EVERY)
}

// Call *close* for each, and wait; what fails in it is nobody's business any more.
async function each (objects, close) {
  await Promise.all(objects.map(async (object) => {
    try {
      await close(object)
    } catch {}
  }))
}

module.exports = { LOOK_EVERY, each, sleep, until }
