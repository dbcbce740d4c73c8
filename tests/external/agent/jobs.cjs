// A BullMQ worker of a given major version, without a line of shutdown code; it puts COUNT jobs of MS into its queue itself.  Says
// what else of BullMQ has been closed.
'use strict'

const { FlowProducer, Queue, QueueEvents, Worker } = require(process.argv[2])
const [count, ms] = process.argv.slice(3).map(Number)
const connection = { host: '127.0.0.1', port: Number(process.env.REDIS_PORT), maxRetriesPerRequest: null }
const queue = new Queue('mails', { connection })
const worker = new Worker('mails', (job) => new Promise((resolve) => {
  console.log(`begin ${job.id}`)
  setTimeout(() => { console.log(`end ${job.id}`); resolve() }, ms)
}), { connection, concurrency: 3 })
const others = { queue, events: new QueueEvents('mails', { connection }), flow: new FlowProducer({ connection }) }
for (const [name, one] of Object.entries(others)) {
  const close = one.close
  one.close = async () => { await close.call(one); console.log(`closed ${name}`) }
}
worker.on('error', (error) => console.log(error.message))
for (let i = 0; i < count; i++) queue.add('mail', {})
