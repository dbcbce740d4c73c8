// A shop's HTTP server, without a line of shutdown code: an order is a row in PostgreSQL, and a job for the worker.
'use strict';

const { Queue } = require('bullmq');
const express = require('express');
const { Pool } = require('pg');

const orders = new Pool({ max: 60 }); // PGHOST, PGUSER, ... say where
const mails = new Queue('mails', { connection: { port: Number(process.env.REDIS_PORT) } });
const app = express();

async function keep(number, ms) {
  const client = await orders.connect();
  try {
    await client.query('begin');
    await client.query('insert into orders (number) values ($1)', [number]);
    await client.query('select pg_sleep($1)', [ms / 1000]);
    await client.query('commit');
  } finally {
    client.release();
  }
}

app.post('/orders/:number', async (request, response) => {
  const { number } = request.params;
  await keep(number, Number(request.query.ms));
  await mails.add('mail', { number });
  response.on('finish', () => console.log(`${new Date().toISOString()} order ${number} answered`));
  response.send(`order ${number}`);
});

app.listen(Number(process.env.PORT), '127.0.0.1');
