// A BullMQ worker that closes on SIGTERM, as its manual has it, and says at ACTIVE_PORT how many jobs are active.
'use strict';

const { Worker } = require('bullmq');
const { Pool } = require('pg');
const { setTimeout: pause } = require('node:timers/promises');

const mails = new Pool({ max: 8 });
let active = 0;

async function send({ data: { number } }) {
  active += 1;
  try {
    await mails.query('insert into mails (number) values ($1)', [number]); // a second time would be an error
    await pause(200 + (number % 10) * 100);
    await mails.query('update mails set sent = now() where number = $1', [number]);
    console.log(`${new Date().toISOString()} mail ${number} sent`);
  } finally {
    active -= 1;
  }
}

const worker = new Worker('mails', send, { connection: { port: Number(process.env.REDIS_PORT) }, concurrency: 8 });
require('node:http')
  .createServer((request, response) => response.end(JSON.stringify({ active: { jobs: active } })))
  .listen(Number(process.env.ACTIVE_PORT), '127.0.0.1');
// The connections to PostgreSQL and the page stay open: such a worker is drained, and does not exit.
process.on('SIGTERM', () => worker.close());
