// Clients of databases and BullMQ's queues, which are closed when no request and no job is left.
'use strict'

const { each } = require('./until.cjs')
const { queries } = require('./waits.cjs')

// Whether somebody uses one all the same: a loop, or a job of a library that the agent does not know.
function areBusy (found) {
  return queries(found).length > 0 ||
    found.pgPool.all().some((pool) => pool.totalCount > pool.idleCount) ||
    found.mysqlPool.all().some((pool) => pool._allConnections.length > pool._freeConnections.length) ||
    found.ioredis.all().some((one) => one.status === 'ready' && one.commandQueue.length > 0)
}

function called (object, method, ...args) {
  return new Promise((resolve) => object[method](...args, resolve))
}

// BullMQ's queue events, whose connections wait for something at all times.
async function closeListeners (found) {
  await each(found.queue.all().filter((one) => 'consumeEvents' in one), (one) => one.close())
}

// All in one go: who is in the middle of something all the same must not see one fail, and then say so
// by another, as the worker of a queue does.  A job that is cut is begun anew, one that failed is not.
async function close (found) {
  await Promise.all([
    each(found.queue.all(), (queue) => queue.close()),
    each(found.pgPool.all().filter((pool) => !pool.ending), (pool) => pool.end()),
    each(found.pgClient.all().filter((one) => one._connected && !one._ending), (one) => one.end()),
    each(found.mysqlPool.all().filter((pool) => !pool._closed), (pool) => called(pool, 'end')),
    each(found.mysqlConnection.all().filter((one) => !one._closing && !one._fatalError), (one) => called(one, 'end')),
    each(found.mongo.all(), (client) => client.close()),
    each(found.ioredis.all().filter((one) => one.status === 'ready'), (one) => one.quit()),
    each(found.redis.all().filter((one) => one.isOpen), (one) => (one.close || one.quit).call(one))
  ])
}

module.exports = { areBusy, close, closeListeners }
