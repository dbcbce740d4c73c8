// What NODE_OPTIONS would be without the agent: Node.js takes it from the files of --env-file only
// where the environment has none.
'use strict'

const fs = require('fs')

const OURS_ALONE = /^--require "[^"]*"$/

// The files named by --env-file that say NODE_OPTIONS and are not heard.
function unheard () {
  if (!OURS_ALONE.test(process.env.NODE_OPTIONS || '')) return []
  const files = process.execArgv.map((word, at, all) => {
    const [, value] = /^--env-file(?:-if-exists)?(?:=(.*))?$/s.exec(word) || [null, null]
    return value === undefined ? all[at + 1] : value
  })
  return files.filter(Boolean).filter((file) => {
    try {
      return /^\s*(export\s+)?NODE_OPTIONS\s*=/m.test(fs.readFileSync(file, 'utf8'))
    } catch {
      return false
    }
  })
}

module.exports = { unheard }
