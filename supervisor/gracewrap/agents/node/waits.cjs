// What this process waits for without a byte or CPU time to show for it: queries to databases (pg,
// mysql2) and HTTP requests of its own that have had no answer yet.
//
// Only what has begun since the stop counts.  What waited before may do so for ever: a long poll, a
// replication, a lock that another instance has.
'use strict'

const { ClientRequest } = require('http')

function queries (found) {
  const ofPg = found.pgClient.all().filter((one) => one.readyForQuery === false)
    .map((one) => '_activeQuery' in one ? one._activeQuery : one.activeQuery) // before 8.17
  return [...ofPg, ...found.mysqlConnection.all().map((one) => one._command)].filter(Boolean)
}

function requests (found) {
  return found.socket.all().map((socket) => socket._httpMessage)
    .filter((one) => one instanceof ClientRequest && !one.res && !one.destroyed)
}

// A poll is asked again and again.
function nameOf (request) {
  return `${request.method} ${request.host} ${request.path}`
}

function create (found, guard) {
  let before = null

  return {
    begin: guard('what is waited for', () => {
      before = { queries: new WeakSet(queries(found)), requests: new Set(requests(found).map(nameOf)) }
    }),

    count: guard('counting what is waited for', () => {
      if (before === null) return 0
      return queries(found).filter((one) => !before.queries.has(one)).length +
        requests(found).filter((one) => !before.requests.has(nameOf(one))).length
    })
  }
}

module.exports = { create }
