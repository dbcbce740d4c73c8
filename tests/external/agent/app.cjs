// A shop: orders over HTTP, each with a job for the worker, in one process or in two.
// node app.cjs web|worker|both [HANDLER]; without one there is not a line of shutdown code.  ORDERS of PostgreSQL has a row for each order, RUNS one for each time that a job was begun.
'use strict'

const role = process.argv[2]
const connection = { host: '127.0.0.1', port: Number(process.env.REDIS_PORT), maxRetriesPerRequest: null }
const { Queue, Worker } = require(process.env.BULLMQ || 'bullmq')
const { Pool } = require('pg')

const name = process.env.QUEUE || 'orders'
const rows = new Pool({ max: 20 }) // PGHOST, PGUSER, ... say where
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, Number(ms)))

let server, jobs, worker

if (role !== 'worker') {
  jobs = new Queue(name, { connection })
  const app = require('express')()
  app.post('/orders/:number', async (request, response) => {
    const { number } = request.params
    await rows.query('insert into orders (number) values ($1)', [number])
    await pause(request.query.ms)
    await jobs.add('order', { number, ms: request.query.job })
    response.send(`order ${number}`)
  })
  server = app.listen(Number(process.env.PORT), '127.0.0.1')
} else {
  server = require('http').createServer((request, response) => response.end()).listen(Number(process.env.PORT), '127.0.0.1')
}
if (role !== 'web') {
  worker = new Worker(name, async ({ data }) => {
    const { rows: [run] } = await rows.query('insert into runs (number) values ($1) returning id', [data.number])
    await pause(data.ms)
    await rows.query('update runs set finished = true where id = $1', [run.id])
  }, { connection, concurrency: 100, lockDuration: Number(process.env.LOCK || 5000) })
}

const served = () => new Promise((resolve) => server.close(resolve))
const handlers = {
  async correct () {
    await Promise.all([served(), worker.close()])
    await Promise.all([jobs.close(), rows.end()])
  },
  async 'forgets the queue' () {
    await served()
    process.exit(0)
  },
  async 'never exits' () {
    await Promise.all([served(), worker.close()])
  }
}
if (process.argv[3]) process.once('SIGTERM', handlers[process.argv[3]])
