'use strict';
// postgres.js: prepared statements of its own, or none; it reads the arrays' numbers when it connects.
const { name, mode, feelings, tenants, say, same, fail, rounds } = require('./stdio.js');
const { version } = JSON.parse(require('fs').readFileSync(require.resolve('postgres').replace(/\/cjs\/.*/, '/package.json')));

let closing = false;
const sql = require('postgres')({
  max: 1, prepare: mode === 'prepared', onnotice: () => {},
  onclose: () => { if (!closing) fail(new Error('the connection has ended')); },
});

const reference = {
  1: { feeling: 'sad', feelings: ['sad', 'happy'], tint: 'light', numbers: [1, 2, 3], thing: '(1,one,sad)', amount: 10 },
  2: { feeling: 'ok', feelings: [], tint: 'medium', numbers: [], thing: '(2,two,ok)', amount: 20 },
  3: { feeling: 'happy', feelings: ['happy', 'ok', 'sad'], tint: 'dark', numbers: [-1, 0, 2147483647], thing: '(3,three,happy)', amount: 30 },
};
const ref = (id) => sql`SELECT feeling, feelings, tint, numbers, thing, amount FROM reference WHERE id = ${id}`;

async function round(n) {
  const feeling = feelings[n % 3];
  for (const [id, want] of Object.entries(reference)) {
    same('reference', { ...(await ref(Number(id)))[0] }, want);
  }
  await sql.begin((tx) => write(tx, n, feeling));
  await sql.begin((tx) => copy(tx, feeling));
  await sql.begin(async (tx) => {
    const got = [];
    await tx`SELECT feeling FROM reference ORDER BY id`.cursor(2, (rows) => { got.push(...rows.map((r) => r.feeling)); });
    same('cursor', got, feelings);
  });
  // Several requests ahead of their answers.
  const all = await Promise.all([1, 2, 3, 1, 2, 3].map(ref));
  same('pipeline', all.map((r) => r[0].feeling), [...feelings, ...feelings]);
  await meet();
  for (const [tenant, numbers] of Object.entries(tenants)) {
    await sql`SELECT set_config('app.tenant', ${tenant}, false)`;
    same(`tenant ${tenant}`, (await sql`SELECT n FROM account ORDER BY n`).map((r) => r.n), numbers);
  }
}

// meet uses types that the loop meets for the first time behind a switch.
let late = false;
async function meet() {
  late = late || (await sql`SELECT current_database() AS here`)[0].here !== process.env.PGDATABASE;
  if (!late) return;
  const [row] = await sql`SELECT s, all_of_them, w FROM late WHERE all_of_them = ${['autumn', 'spring']}`;
  same('late', { ...row }, { s: 'autumn', all_of_them: ['autumn', 'spring'], w: '(spring,7)' });
}

async function write(tx, n, feeling) {
  const want = { feeling, feelings: [feeling, 'ok'], numbers: [n, -n, 0], thing: `(${n},a,${feeling})`, things: ['(1,b,ok)', '(,,)'], amount: n };
  const [{ id, ...got }] = await tx`INSERT INTO item (loop, feeling, feelings, numbers, thing, things, amount)
    VALUES (${name}, ${want.feeling}, ${want.feelings}, ${want.numbers}, ${want.thing}, ${want.things}, ${want.amount})
    RETURNING id, feeling, feelings, numbers, thing, things, amount`;
  same('insert', got, want);
  let code;
  await tx.savepoint((inner) => inner`INSERT INTO item SELECT * FROM item WHERE id = ${id}`).catch((e) => { code = e.code; });
  same('savepoint', code, '23505');
  same('update', (await tx`UPDATE item SET feeling = ${'happy'} WHERE id = ${id} RETURNING feeling`)[0].feeling, 'happy');
  same('delete', (await tx`DELETE FROM item WHERE id = ${id}`).count, 1);
}

async function copy(tx, feeling) {
  const into = await tx`COPY copied FROM STDIN`.writable();
  await new Promise((resolve, reject) => {
    into.on('error', reject).on('finish', resolve);
    for (let i = 0; i < 100; i++) into.write(`${name}\t${i}\t${feeling}\n`);
    into.end();
  });
  const [row] = await tx`SELECT count(*)::int, array_agg(DISTINCT feeling) AS all FROM copied WHERE loop = ${name}`;
  same('copy in', { ...row }, { count: 100, all: [feeling] });
  await tx`DELETE FROM copied WHERE loop = ${name}`;
}

(async () => {
  await sql`SET app.tenant = 'north'`;
  say({ driver: 'postgres.js', version });
  await rounds(round);
  closing = true;
  await sql.end();
})().catch(fail);
