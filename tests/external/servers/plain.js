// A Node.js HTTP server without a line of shutdown code: /slow?n=N&ms=MS&size=SIZE answers after MS milliseconds.
'use strict';

const http = require('node:http');

http
  .createServer((request, response) => {
    const asked = new URL(request.url, 'http://x').searchParams;
    let length = 0;
    request.on('data', (data) => (length += data.length));
    request.on('end', () =>
      setTimeout(
        () => response.end(`${asked.get('n')}:${length}:` + 'x'.repeat(Number(asked.get('size')))),
        Number(asked.get('ms')),
      ),
    );
  })
  .listen(Number(process.argv[2]), '127.0.0.1');
