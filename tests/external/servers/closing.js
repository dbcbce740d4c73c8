// A server that closes on SIGTERM as its documentation says, with http, express, fastify or hono; each request is told by a line.
'use strict';

const [, , kind, port] = process.argv;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, Number(ms)));
const body = (asked) => `${asked.n}:0:` + 'x'.repeat(Number(asked.size));

async function answer(asked) {
  console.log('request');
  await pause(asked.ms);
  return body(asked);
}

function listen(server) {
  server.keepAliveTimeout = 65_000; // behind a load balancer that keeps its connections for 60 s
  server.listen(Number(port), '127.0.0.1', () => console.log('listening'));
  process.on('SIGTERM', () => {
    console.log('SIGTERM');
    server.close(() => console.log('closed'));
  });
}

const servers = {
  http() {
    listen(
      require('node:http').createServer(async (request, response) => {
        response.end(await answer(Object.fromEntries(new URL(request.url, 'http://x').searchParams)));
      }),
    );
  },
  express() {
    const app = require('express')();
    app.get('/slow', async (request, response) => response.end(await answer(request.query)));
    listen(require('node:http').createServer(app));
  },
  async fastify() {
    const app = require('fastify')({ keepAliveTimeout: 65_000 });
    app.get('/slow', (request) => answer(request.query));
    await app.listen({ port: Number(port), host: '127.0.0.1' });
    console.log('listening');
    process.on('SIGTERM', async () => {
      console.log('SIGTERM');
      await app.close();
      console.log('closed');
    });
  },
  hono() {
    const app = new (require('hono').Hono)();
    app.get('/slow', async (context) => context.text(await answer(context.req.query())));
    listen(require('@hono/node-server').createAdaptorServer({ fetch: app.fetch }));
  },
};
servers[kind]();
