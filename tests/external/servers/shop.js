// A shop in one process, an HTTP server and a BullMQ worker: node shop.js PORT PAGE [HANDLER]; without one there is not a line of shutdown code.
// POST /orders/N?ms=MS&job=MS answers when the order is in the queue; a job notes in Redis that it has begun and that it is done.
// The page at the port PAGE says what is in flight.
'use strict';

const { Queue, Worker } = require('bullmq');
const { Redis } = require('ioredis');

const [, , port, page, handler] = process.argv;
const url = new URL(process.env.REDIS_URL);
const connection = { host: url.hostname, port: Number(url.port), db: Number(url.pathname.slice(1)), maxRetriesPerRequest: null };
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, Number(ms)));
const active = { requests: 0, jobs: 0 };

const notes = new Redis(connection);
const queue = new Queue('orders', { connection });
const work = async ({ data: { number, job } }) => {
  active.jobs += 1;
  await notes.rpush('begun', number);
  await pause(job);
  await notes.rpush('done', number);
  active.jobs -= 1;
};
const worker = new Worker('orders', work, { connection, concurrency: 12 });

const app = require('express')();
app.post('/orders/:number', async (request, response) => {
  active.requests += 1;
  response.on('close', () => (active.requests -= 1));
  const { number } = request.params;
  await pause(request.query.ms);
  await queue.add('order', { number, job: request.query.job });
  response.send(`order ${number}`);
});
const server = app.listen(Number(port), '127.0.0.1');
const asked = require('node:http').createServer((request, response) => response.end(JSON.stringify({ active })));
asked.listen(Number(page), '127.0.0.1');

const finished = () => Promise.all([new Promise((resolve) => server.close(resolve)), worker.close()]);
const handlers = {
  async correct() {
    await finished();
    asked.close();
    await Promise.all([queue.close(), notes.quit()]);
  },
  // The other connections to Redis and the page stay open, which keeps Node.js alive.
  'never exits': finished,
};
if (handler) process.once('SIGTERM', handlers[handler]);
