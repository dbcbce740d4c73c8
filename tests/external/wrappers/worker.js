// A worker that needs two seconds to finish after SIGTERM, and drops its work on a second one.
let told = 0;
process.on('SIGTERM', () => {
  console.log('told');
  if (told++) { console.log('dropped'); process.exit(1); }
  setTimeout(() => { console.log('finished'); process.exit(0); }, 2000);
});
setInterval(() => {}, 1); // busy: always on the move
console.log('up');
