"""psycopg 3: server-side statements; text, binary, and pipelines."""

import enum

import psycopg
import psycopg.types.composite
import psycopg.types.enum

import stdio
from stdio import MODE, NAME, same

Mood = enum.Enum("Mood", stdio.FEELINGS)
Shade = enum.Enum("Shade", ["light", "medium", "dark"])
Season = enum.Enum("Season", ["spring", "autumn"])
BINARY = MODE != "text"
REF = "SELECT feeling, feelings, tint, numbers, thing, amount FROM reference WHERE id = %s"
INS = (
    "INSERT INTO item (loop, feeling, feelings, numbers, thing, things, amount) VALUES (%s, %s, %s, %s, %s, %s, %s)"
    " RETURNING id, feeling, feelings, numbers, thing, things, amount"
)
heard = []
late = False


def register(conn):
    """Teaches the driver the types of the user; it looks their numbers up once."""
    for name, python_type in (("mood", Mood), ("shade", Shade)):
        psycopg.types.enum.register_enum(psycopg.types.enum.EnumInfo.fetch(conn, name), conn, python_type)
    info = psycopg.types.composite.CompositeInfo.fetch(conn, "pair")
    psycopg.types.composite.register_composite(info, conn)
    conn.execute("SET app.tenant = 'north'")
    conn.add_notify_handler(lambda note: heard.append(note.payload))
    conn.execute(f'LISTEN "{NAME}"')
    return info.python_type


def one_round(conn, pair, n):
    feeling = Mood[stdio.FEELINGS[n % 3]]

    def run(sql, *args):
        return conn.execute(sql, args, prepare=True, binary=BINARY)

    for key, (f, fs, tint, numbers, (a, b, m), amount) in stdio.REFERENCE.items():
        want = (Mood[f], [Mood[x] for x in fs], Shade[tint], numbers, pair(a, b, Mood[m]), amount)
        same("reference", run(REF, key).fetchone(), want)
    with conn.transaction():
        values = (feeling, [feeling, Mood.ok], [n, -n, 0], pair(n, "a thing", feeling), [pair(n, 'quoted "q", (x)', Mood.ok), pair(None, None, None)], n)
        row = run(INS, NAME, *values).fetchone()
        same("insert", row[1:], values)
        try:
            with conn.transaction():
                conn.execute("INSERT INTO item SELECT * FROM item WHERE id = %s", (row[0],))
            raise AssertionError("a key came twice")
        except psycopg.errors.UniqueViolation:
            pass
        got = run("UPDATE item SET feeling = %s WHERE id = %s RETURNING feeling", Mood.happy, row[0]).fetchone()
        same("update", got, (Mood.happy,))
        same("delete", run("DELETE FROM item WHERE id = %s", row[0]).rowcount, 1)
    with conn.transaction(), conn.cursor() as cur:
        with cur.copy("COPY copied FROM STDIN" + (" (FORMAT BINARY)" if BINARY else "")) as copy:
            copy.set_types(["text", "int4", "mood"])
            for i in range(100):
                copy.write_row((NAME, i, feeling))
        with cur.copy("COPY (SELECT n, feeling FROM copied ORDER BY n LIMIT 100) TO STDOUT") as copy:
            copy.set_types(["int4", "mood"])
            same("copy out", list(copy.rows())[99][1], feeling)
        cur.execute("DELETE FROM copied WHERE loop = %s", (NAME,))
        same("copy in", cur.rowcount, 100)
    with conn.transaction(), conn.cursor("a_cursor", binary=BINARY) as cur:
        cur.itersize = 2
        cur.execute("SELECT feeling, feelings FROM reference ORDER BY id")
        same("cursor", list(cur), [(Mood[f], [Mood[x] for x in fs]) for f, fs, *_ in stdio.REFERENCE.values()])
    for tenant, want in stdio.TENANTS.items():
        run("SELECT set_config('app.tenant', %s, false)", tenant)
        same("tenant " + tenant, [v for v, in run("SELECT n FROM account ORDER BY n")], want)
    conn.execute("SELECT pg_notify(%s, %s)", (NAME, str(n)))
    while not heard:
        conn.execute("SELECT 1")
    same("notification", heard.pop(0), str(n))


def meet(conn):
    """Uses types that the loop meets for the first time behind a switch."""
    global late
    if not late:
        if conn.execute(stdio.WHERE).fetchone()[0] == stdio.HOME:
            return
        late = True
        psycopg.types.enum.register_enum(psycopg.types.enum.EnumInfo.fetch(conn, "season"), conn, Season)
        psycopg.types.composite.register_composite(psycopg.types.composite.CompositeInfo.fetch(conn, "weather"), conn)
    autumn, spring = Season.autumn, Season.spring
    row = conn.execute("SELECT s, all_of_them, w FROM late WHERE s = %s", (autumn,), prepare=True, binary=BINARY).fetchone()
    same("late", row, (autumn, [autumn, spring], (spring, 7)))


def pipelined(conn, pair, n):
    """Many requests ahead of their answers, with a synchronisation in between."""
    feeling = Mood[stdio.FEELINGS[n % 3]]
    with conn.pipeline() as pipe:
        cursors = [conn.execute(REF, (1 + i % 3,), prepare=True, binary=True) for i in range(20)]
        pipe.sync()
        with conn.transaction():
            ins = conn.execute(INS, (NAME, feeling, [feeling], [n], pair(n, "a", feeling), [], n), prepare=True, binary=True)
            conn.execute("DELETE FROM item WHERE loop = %s", (NAME,), prepare=True)
    for i, cur in enumerate(cursors):
        same("pipeline", cur.fetchone()[0], Mood[stdio.REFERENCE[1 + i % 3][0]])
    same("pipelined insert", ins.fetchone()[4], pair(n, "a", feeling))


def main():
    stdio.watch()
    with psycopg.connect("", autocommit=True) as conn:
        stdio.say(driver="psycopg", version=f"{psycopg.__version__} ({psycopg.pq.__impl__}, libpq {psycopg.pq.version()})")
        pair = register(conn)
        n = 0
        while not stdio.stopped.is_set():
            n += 1
            one_round(conn, pair, n)
            meet(conn)
            if MODE == "pipeline":
                pipelined(conn, pair, n)
            stdio.say(round=n, operations=stdio.operations)


try:
    main()
except Exception as error:
    stdio.failed(error)
