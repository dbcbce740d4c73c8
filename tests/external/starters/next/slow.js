// A route of Next.js: /api/MS answers "done" after so many milliseconds.
export default async function slow (request, response) {
  console.log('request')
  await new Promise((resolve) => setTimeout(resolve, Number(request.query.ms)))
  response.send('done')
}
