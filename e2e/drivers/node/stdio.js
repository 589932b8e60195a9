'use strict';
// What the loops in JavaScript have in common: see doc.go.
const assert = require('assert');

const state = { stopped: false, operations: 0 };
exports.state = state;
exports.name = process.env.CROSSFADE_LOOP;
exports.mode = process.env.CROSSFADE_MODE;
exports.feelings = ['sad', 'ok', 'happy'];
exports.tenants = { north: [1, 2], south: [10, 20, 30] };

exports.say = (message) => process.stdout.write(JSON.stringify(message) + '\n');

// same counts an operation and checks its result.
exports.same = (what, got, want) => {
  state.operations++;
  assert.deepStrictEqual(got, want, `${what}: got ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);
};

exports.fail = (error) => {
  process.stderr.write(`${error && error.stack}\n`);
  process.stdout.write(JSON.stringify({ error: String((error && error.message) || error) }) + '\n', () => process.exit(1));
};

exports.rounds = async (round) => {
  process.stdin.resume();
  process.stdin.on('end', () => { state.stopped = true; });
  for (let n = 1; !state.stopped; n++) {
    await round(n);
    exports.say({ round: n, operations: state.operations });
    await new Promise(setImmediate); // let the end of the input be seen
  }
};
