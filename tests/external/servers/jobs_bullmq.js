// A BullMQ worker that closes on SIGTERM, and says how many jobs are active at http://127.0.0.1:PORT/active; or (`add`) a producer.
// With `whole` it closes all that it has opened.
'use strict';

const { Queue, Worker } = require('bullmq');
const { Redis } = require('ioredis');

const [, , what, ...args] = process.argv;
const { hostname, port } = new URL(process.env.REDIS_URL);
const connection = { host: hostname, port: Number(port), maxRetriesPerRequest: null };

async function add(jobs) {
  const queue = new Queue('work', { connection });
  await queue.addBulk(jobs.map(([n, ms]) => ({ name: 'work', data: { n, ms } })));
  await queue.close();
}

function work(port, whole) {
  let active = 0;
  const notes = new Redis(connection);
  const worker = new Worker(
    'work',
    async ({ data }) => {
      active += 1;
      try {
        await notes.rpush('begun', data.n);
        await new Promise((resolve) => setTimeout(resolve, data.ms));
        await notes.rpush('done', data.n);
      } finally {
        active -= 1;
      }
    },
    { connection, concurrency: 4 },
  );
  const server = require('node:http')
    .createServer((request, response) => response.end(JSON.stringify({ active: { jobs: active } })))
    .listen(port, '127.0.0.1');
  process.on('SIGTERM', async () => {
    if (whole) server.close();
    await worker.close();
    // Else the other connection to Redis and the page stay open: such a worker is drained, and does not exit.
    if (whole) await notes.quit();
  });
}

if (what === 'add') add(JSON.parse(args[0]));
else work(Number(what), args[0] === 'whole');
