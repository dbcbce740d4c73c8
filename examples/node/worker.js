// A BullMQ worker without any shutdown code; each of its jobs takes 0.8 s. Redis is at the unix socket REDIS_SOCKET.
// `node worker.js enqueue NAME` puts a job into its queue, `node worker.js ask` prints the names of those that are done.
const { Queue, Worker } = require("bullmq");
const { Redis } = require("ioredis");

const connection = { path: process.env.REDIS_SOCKET, maxRetriesPerRequest: null };
const redis = new Redis(connection);
const [, , verb, name] = process.argv;

async function handle(job) {
  await new Promise((resolve) => setTimeout(resolve, 800));
  await redis.rpush("done", job.name);
}

async function enqueue() {
  const queue = new Queue("orders", { connection });
  await queue.add(name);
  await queue.close();
  redis.disconnect();
}

async function ask() {
  console.log((await redis.lrange("done", 0, -1)).join("\n"));
  redis.disconnect();
}

if (verb === "enqueue") enqueue();
else if (verb === "ask") ask();
// A job that was cut is not begun again (by default it is, half a minute later): half an order may not be handled twice.
else new Worker("orders", handle, { connection, concurrency: 4, maxStalledCount: 0 });
