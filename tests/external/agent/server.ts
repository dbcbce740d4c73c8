// A server in TypeScript, without a line of shutdown code: /MS answers "done" after so many milliseconds.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'

const server = createServer((request: IncomingMessage, response: ServerResponse): void => {
  console.log('request')
  setTimeout(() => response.end('done'), Number(request.url!.slice(1)))
})
server.listen(Number(process.env.PORT), '127.0.0.1', () => console.log('listens'))
