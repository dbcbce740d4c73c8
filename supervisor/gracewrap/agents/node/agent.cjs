// The agent of gracewrap for Node.js: counts what is in flight, hears of a stop before the stop
// signal, and finishes what has begun where the application has no handler of its own.
//
// Loaded by NODE_OPTIONS=--require, into each Node.js process of the command and each of its worker
// threads.  It must never harm: whatever fails in it is told to gracewrap once and switched off.
// This file is read by any Node.js there may be, so it uses nothing that an old one cannot read.
'use strict'

const OLDEST = 18
// Package managers only wait for what they start, and pass signals on to it.
const LEFT_ALONE = /[/\\](npm|npm-cli|npx|npx-cli|yarn|yarnpkg|pnpm|pnpx|corepack)(\.c?js)?$/

function start () {
  const path = process.env.GRACEWRAP_AGENT_SOCKET
  if (!path || LEFT_ALONE.test(process.argv[1] || '')) return
  const mark = Symbol.for('gracewrap.agent')
  if (globalThis[mark]) return // it is required twice
  Object.defineProperty(globalThis, mark, { value: true })
  const channel = require('./channel.cjs').connect(path)
  const major = parseInt(process.versions.node, 10)
  if (major < OLDEST) {
    channel.trouble('Node.js ' + process.versions.node + ' is too old for the agent; use 18 or newer')
    return
  }
  require('./parts.cjs').begin(channel)
}

try {
  start()
} catch (error) {
  // The application starts without it; gracewrap sees that no agent has connected.
}
