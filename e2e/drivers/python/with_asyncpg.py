"""asyncpg: binary throughout; it introspects types when it first meets them."""

import asyncio

import asyncpg

import stdio
from stdio import MODE, NAME, same

REF = "SELECT feeling, feelings, tint, numbers, thing, amount FROM reference WHERE id = $1"
INS = (
    "INSERT INTO item (loop, feeling, feelings, numbers, thing, things, amount) VALUES ($1, $2, $3, $4, $5, $6, $7)"
    " RETURNING id, feeling, feelings, numbers, thing, things, amount"
)
late = False


async def one_round(conn, fetchrow, heard, n):
    feeling = stdio.FEELINGS[n % 3]
    for key, want in stdio.REFERENCE.items():
        same("reference", tuple(await fetchrow(REF, key)), want)
    async with conn.transaction():
        values = (feeling, [feeling, "ok"], [n, -n, 0], (n, "a thing", feeling), [(n, 'quoted "q", (x)', "ok"), (None, None, None)], n)
        row = tuple(await fetchrow(INS, NAME, *values))
        same("insert", row[1:], values)
        try:
            async with conn.transaction():
                await conn.execute("INSERT INTO item SELECT * FROM item WHERE id = $1", row[0])
            raise AssertionError("a key came twice")
        except asyncpg.UniqueViolationError:
            pass
        got = await fetchrow("UPDATE item SET feeling = $2 WHERE id = $1 RETURNING feeling", row[0], "happy")
        same("update", tuple(got), ("happy",))
        same("delete", await conn.execute("DELETE FROM item WHERE id = $1", row[0]), "DELETE 1")
    async with conn.transaction():
        copied = await conn.copy_records_to_table("copied", records=[(NAME, i, feeling) for i in range(100)])
        same("copy in", copied, "COPY 100")
        got = await conn.fetchval("SELECT array_agg(DISTINCT feeling) FROM copied WHERE loop = $1", NAME)
        same("copied", got, [feeling])
        await conn.execute("DELETE FROM copied WHERE loop = $1", NAME)
    async with conn.transaction():
        got = [tuple(r) async for r in conn.cursor("SELECT feeling, feelings FROM reference ORDER BY id", prefetch=2)]
        same("cursor", got, [want[:2] for want in stdio.REFERENCE.values()])
    for tenant, want in stdio.TENANTS.items():
        await fetchrow("SELECT set_config('app.tenant', $1, false)", tenant)
        same("tenant " + tenant, [r[0] for r in await conn.fetch("SELECT n FROM account ORDER BY n")], want)
    await conn.execute("SELECT pg_notify($1, $2)", NAME, str(n))
    same("notification", await heard.get(), str(n))


async def meet(conn, fetchrow):
    """Uses types that the loop meets for the first time behind a switch."""
    global late
    late = late or await conn.fetchval(stdio.WHERE) != stdio.HOME
    if late:
        row = await fetchrow("SELECT s, all_of_them, w FROM late WHERE s = $1 AND all_of_them = $2", *stdio.LATE[:2])
        same("late", tuple(row), stdio.LATE)


async def main():
    stdio.watch()
    # Compiling the query that introspects types takes longer than all else here.
    conn = await asyncpg.connect(server_settings={"jit": "off"})
    stdio.say(driver="asyncpg", version=asyncpg.__version__)
    heard = asyncio.Queue()
    await conn.execute("SET app.tenant = 'north'")
    await conn.add_listener(NAME, lambda _conn, _pid, _channel, payload: heard.put_nowait(payload))
    prepared = {}

    async def fetchrow(sql, *args):
        if MODE == "cached":
            return await conn.fetchrow(sql, *args)
        if sql not in prepared:
            prepared[sql] = await conn.prepare(sql)
        return await prepared[sql].fetchrow(*args)

    n = 0
    while not stdio.stopped.is_set():
        n += 1
        await one_round(conn, fetchrow, heard, n)
        await meet(conn, fetchrow)
        stdio.say(round=n, operations=stdio.operations)
    await conn.close()


try:
    asyncio.run(main())
except Exception as error:
    stdio.failed(error)
