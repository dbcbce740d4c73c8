// One server for each framework, without a line of shutdown code: /MS answers "done" after so many milliseconds.
'use strict'

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, Number(ms)))

const servers = {
  express () {
    const app = require('express')()
    app.get('/:ms', async (request, response) => response.send(await pause(request.params.ms) ?? 'done'))
    return app.listen(0, '127.0.0.1', ready)
  },
  fastify () {
    const app = require('fastify')()
    app.get('/:ms', async (request) => await pause(request.params.ms) ?? 'done')
    app.listen({ port: 0, host: '127.0.0.1' }).then(() => ready.call(app.server))
  },
  hono () {
    const { Hono } = require('hono')
    const app = new Hono()
    app.get('/:ms', async (context) => context.text(await pause(context.req.param('ms')) ?? 'done'))
    const server = require('@hono/node-server').serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }, () => ready.call(server))
  },
  koa () {
    const koa = require('koa')
    const app = new (koa.default || koa)()
    app.use(async (context) => { context.body = await pause(context.path.slice(1)) ?? 'done' })
    app.listen(0, '127.0.0.1', ready)
  },
  async nest () {
    require('reflect-metadata')
    const { NestFactory } = require('@nestjs/core')
    const { Controller, Get, Module, Param } = require('@nestjs/common')
    class Slow { async get (ms) { return await pause(ms) ?? 'done' } }
    Param('ms')(Slow.prototype, 'get', 0)
    Get(':ms')(Slow.prototype, 'get', Object.getOwnPropertyDescriptor(Slow.prototype, 'get'))
    Controller()(Slow)
    class App {}
    Module({ controllers: [Slow] })(App)
    const app = await NestFactory.create(App, { logger: false })
    await app.listen(0, '127.0.0.1')
    ready.call(app.getHttpServer())
  },
  http () {
    require('http').createServer(async (request, response) => {
      await pause(request.url.slice(1))
      response.end('done')
    }).listen(0, '127.0.0.1', ready)
  }
}

function ready () {
  console.log(`port ${this.address().port}`)
}

servers[process.argv[2]]()
