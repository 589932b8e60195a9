'use strict';
// node-postgres: named statements, or the unnamed one; text.
const { Client } = require('pg');
const { version } = require('pg/package.json');
const { name, mode, feelings, tenants, say, same, fail, rounds } = require('./stdio.js');

const client = new Client();
const heard = [];
let wake = () => {};
client.on('error', fail);
client.on('end', () => { if (!closing) fail(new Error('the connection has ended')); });
client.on('notification', (n) => { heard.push(n.payload); wake(); });
let closing = false;

const statements = new Map();
function run(text, ...values) {
  if (mode === 'unnamed') return client.query(text, values);
  if (!statements.has(text)) statements.set(text, `statement ${statements.size}`);
  return client.query({ name: statements.get(text), text, values });
}

const ref = 'SELECT feeling, feelings, tint, numbers, thing, amount FROM reference WHERE id = $1';
const ins = 'INSERT INTO item (loop, feeling, feelings, numbers, thing, things, amount) VALUES ($1, $2, $3, $4, $5, $6, $7)'
  + ' RETURNING id, feeling, feelings, numbers, thing, things, amount';
const reference = {
  1: { feeling: 'sad', feelings: ['sad', 'happy'], tint: 'light', numbers: [1, 2, 3], thing: '(1,one,sad)', amount: 10 },
  2: { feeling: 'ok', feelings: [], tint: 'medium', numbers: [], thing: '(2,two,ok)', amount: 20 },
  3: { feeling: 'happy', feelings: ['happy', 'ok', 'sad'], tint: 'dark', numbers: [-1, 0, 2147483647], thing: '(3,three,happy)', amount: 30 },
};

async function round(n) {
  const feeling = feelings[n % 3];
  for (const [id, want] of Object.entries(reference)) {
    same('reference', { ...(await run(ref, id)).rows[0] }, want);
  }

  await client.query('BEGIN');
  const want = { feeling, feelings: [feeling, 'ok'], numbers: [n, -n, 0], thing: `(${n},a,${feeling})`, things: '{"(1,b,ok)","(,,)"}', amount: n };
  const { id, ...got } = (await run(ins, name, ...Object.values(want))).rows[0];
  same('insert', got, want);
  await client.query('SAVEPOINT here');
  let code;
  await run('INSERT INTO item SELECT * FROM item WHERE id = $1', id).catch((e) => { code = e.code; });
  same('savepoint', code, '23505');
  await client.query('ROLLBACK TO SAVEPOINT here');
  same('update', (await run('UPDATE item SET feeling = $2 WHERE id = $1 RETURNING feeling', id, 'happy')).rows[0].feeling, 'happy');
  same('delete', (await run('DELETE FROM item WHERE id = $1', id)).rowCount, 1);
  await client.query('COMMIT');

  // Several requests ahead of their answers.
  const all = await Promise.all([1, 2, 3, 1, 2, 3].map((i) => run(ref, i)));
  same('queue', all.map((r) => r.rows[0].feeling), [...feelings, ...feelings]);

  for (const [tenant, numbers] of Object.entries(tenants)) {
    await run("SELECT set_config('app.tenant', $1, false)", tenant);
    same(`tenant ${tenant}`, (await run('SELECT n FROM account ORDER BY n')).rows.map((r) => r.n), numbers);
  }
  await meet();
  await run("SELECT pg_notify($1, $2)", name, `${n}`);
  while (heard.length === 0) await new Promise((resolve) => { wake = resolve; });
  same('notification', heard.shift(), `${n}`);
}

// meet uses types that the loop meets for the first time behind a switch.
let late = false;
async function meet() {
  if (!late) {
    const { rows } = await client.query('SELECT current_database() AS here');
    if (rows[0].here === process.env.PGDATABASE) return;
    late = true;
    await parse('_season');
  }
  same('late', { ...(await run('SELECT s, all_of_them, w FROM late')).rows[0] }, { s: 'autumn', all_of_them: ['autumn', 'spring'], w: '(spring,7)' });
}

// Knowing an array means to look its number up once and to set a parser for it.
async function parse(type) {
  const { rows } = await client.query('SELECT oid FROM pg_type WHERE typname = $1', [type]);
  client.setTypeParser(rows[0].oid, (text) => text.slice(1, -1).split(',').filter(Boolean));
}

async function register() {
  await parse('_mood');
  await client.query("SET app.tenant = 'north'");
  await client.query(`LISTEN "${name}"`);
}

(async () => {
  await client.connect();
  say({ driver: 'node-postgres', version });
  await register();
  await rounds(round);
  closing = true;
  await client.end();
})().catch(fail);
