// What this process waits for without a byte or CPU time to show for it: queries to databases (pg,
// mysql2) and HTTP requests of its own that have had no answer yet, and children.
//
// Only what has begun since the stop counts.  What waited before may do so for ever: a long poll, a
// replication, a lock that another instance has.
'use strict'

const diagnostics = require('diagnostics_channel')
const { ClientRequest } = require('http')

function queries (found) {
  const ofPg = found.pgClient.all().filter((one) => one.readyForQuery === false)
    .map((one) => '_activeQuery' in one ? one._activeQuery : one.activeQuery) // before 8.17
  return [...ofPg, ...found.mysqlConnection.all().map((one) => one._command)].filter(Boolean)
}

// Not those that fork() starts, as cluster does: they are no step of a handler, but serve as this does,
// and have an agent.
function children (found) {
  return found.child.all()
    .filter((one) => one.pid && !one.connected && one.exitCode === null && one.signalCode === null)
}

function requests (found) {
  return found.socket.all().map((socket) => socket._httpMessage)
    .filter((one) => one instanceof ClientRequest && !one.res && !one.destroyed)
}

// A poll is asked again and again.
function nameOf ({ method, host, path }) {
  return `${method} ${host} ${path}`
}

// Those of fetch().  Node.js tells of them as they come and go, so nothing is known of what began
// before; but an answer says its name.
function watchFetches (guard) {
  const waiting = new Set()
  const answered = new Set()
  const on = (event, act) => diagnostics.channel(`undici:request:${event}`).subscribe(guard('fetch()', act))
  const name = ({ method, origin, path }) => nameOf({ method, host: origin, path })
  on('create', ({ request }) => {
    if (!answered.has(name(request))) waiting.add(request)
  })
  on('headers', ({ request }) => {
    waiting.delete(request)
    answered.add(name(request))
  })
  on('error', ({ request }) => waiting.delete(request))
  return waiting
}

function create (found, guard) {
  let before = null
  let fetches = null

  return {
    begin: guard('what is waited for', () => {
      const begun = new WeakSet([...queries(found), ...children(found)])
      before = { begun, requests: new Set(requests(found).map(nameOf)) }
      if (fetches === null) fetches = watchFetches(guard)
    }),

    count: guard('counting what is waited for', () => {
      if (before === null) return 0
      return [...queries(found), ...children(found)].filter((one) => !before.begun.has(one)).length +
        requests(found).filter((one) => !before.requests.has(nameOf(one))).length + fetches.size
    })
  }
}

module.exports = { create, queries }
