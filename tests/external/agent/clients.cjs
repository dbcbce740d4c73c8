// A server that answers /MS after so many milliseconds, with one query before and one after it, by one client of a database; without
// a line of shutdown code.  node clients.cjs KIND.  Says "query failed" if a client has been closed too early.
'use strict'

const env = process.env
const mysql = { host: '127.0.0.1', port: Number(env.MYSQL_PORT), user: 'root', database: 'test' }

const KINDS = {
  async 'pg Pool' () {
    const pool = new (require('pg').Pool)()
    return () => pool.query('select 1')
  },
  async 'pg Client' () {
    const client = new (require('pg').Client)()
    await client.connect()
    return () => client.query('select 1')
  },
  async Prisma () {
    const { PrismaPg } = require('@prisma/adapter-pg')
    const { host, port, user } = { host: env.PGHOST, port: Number(env.PGPORT), user: env.PGUSER }
    const client = new (require('./client').PrismaClient)({ adapter: new PrismaPg({ host, port, user }) })
    return () => client.work.findMany()
  },
  async ioredis () {
    const client = new (require('ioredis'))(Number(env.REDIS_PORT), '127.0.0.1')
    return () => client.incr('work')
  },
  async redis () {
    const client = require('redis').createClient({ url: `redis://127.0.0.1:${env.REDIS_PORT}` })
    await client.connect()
    return () => client.incr('work')
  },
  async 'mysql2 pool' () {
    const pool = require('mysql2/promise').createPool(mysql)
    return () => pool.query('select 1')
  },
  async 'mysql2 connection' () {
    const connection = await require('mysql2/promise').createConnection(mysql)
    return () => connection.query('select 1')
  },
  async mongodb () {
    const client = new (require('mongodb').MongoClient)(`mongodb://127.0.0.1:${env.MONGO_PORT}/`)
    const work = client.db('test').collection('work')
    return () => work.insertOne({ at: new Date() })
  },
  async mongoose () {
    const mongoose = require('mongoose')
    await mongoose.connect(`mongodb://127.0.0.1:${env.MONGO_PORT}/test`)
    const Work = mongoose.model('Work', new mongoose.Schema({ at: Date }))
    return () => Work.create({ at: new Date() })
  }
}

KINDS[process.argv[2]]().then(async (query) => {
  await query()
  const server = require('http').createServer(async (request, response) => {
    try {
      await query()
      await new Promise((resolve) => setTimeout(resolve, Number(request.url.slice(1))))
      await query()
      response.end('done')
    } catch (error) {
      console.log(`query failed: ${error.message}`)
      response.end(error.message)
    }
  })
  server.listen(0, '127.0.0.1', () => console.log(`port ${server.address().port}`))
})
