// An HTTP server without any shutdown code: GET / answers after 0.3 s, GET /slow after 2 s.
const http = require("node:http");

http.createServer((request, response) => {
  setTimeout(() => response.end("done\n"), request.url === "/slow" ? 2000 : 300);
}).listen(process.env.PORT ?? 3000, () => console.log("server: listening"));
