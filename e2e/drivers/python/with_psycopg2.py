"""psycopg2: text, parameters put in by the client, SQL PREPARE."""

import io
import select

import psycopg2
import psycopg2.extensions
import psycopg2.extras

import stdio
from stdio import NAME, same

late = False


def register(conn):
    """Teaches the driver the types of the user; it looks their numbers up once."""
    psycopg2.extras.register_composite("pair", conn)
    with conn, conn.cursor() as cur:
        cur.execute("SELECT oid FROM pg_type WHERE typname = '_mood'")
        moods = psycopg2.extensions.new_array_type((cur.fetchone()[0],), "mood[]", psycopg2.STRING)
        psycopg2.extensions.register_type(moods, conn)
        cur.execute("SET app.tenant = 'north'")
        cur.execute('LISTEN "%s"' % NAME)
        cur.execute("PREPARE ref (integer) AS SELECT feeling, feelings, tint, numbers, thing, amount FROM reference WHERE id = $1")
        cur.execute(
            "PREPARE ins (text, mood, mood[], integer[], pair, pair[], integer) AS INSERT INTO item"
            " (loop, feeling, feelings, numbers, thing, things, amount) VALUES ($1, $2, $3, $4, $5, $6, $7)"
            " RETURNING id, feeling, feelings, numbers, thing, things, amount"
        )


def meet(conn):
    """Uses types that the loop meets for the first time behind a switch."""
    global late
    with conn, conn.cursor() as cur:
        if not late:
            cur.execute(stdio.WHERE)
            if cur.fetchone()[0] == stdio.HOME:
                return
            late = True
            psycopg2.extras.register_composite("weather", conn)
            cur.execute("SELECT oid FROM pg_type WHERE typname = '_season'")
            seasons = psycopg2.extensions.new_array_type((cur.fetchone()[0],), "season[]", psycopg2.STRING)
            psycopg2.extensions.register_type(seasons, conn)
        cur.execute("SELECT s, all_of_them, w FROM late")
        same("late", cur.fetchone(), stdio.LATE)


def one_round(conn, n):
    feeling = stdio.FEELINGS[n % 3]
    with conn, conn.cursor() as cur:
        for key, want in stdio.REFERENCE.items():
            cur.execute("EXECUTE ref (%s)", (key,))
            same("reference", cur.fetchone(), want)
    with conn, conn.cursor() as cur:
        thing, things = (n, "a thing", feeling), [(n, 'quoted "q", (x)', "ok"), (None, None, None)]
        values = (feeling, [feeling, "ok"], [n, -n, 0], thing, things, n)
        cur.execute(
            "EXECUTE ins (%s, %s, %s::mood[], %s, %s::pair, ARRAY[%s::pair, %s::pair], %s)",
            (NAME, feeling, [feeling, "ok"], [n, -n, 0], thing, *things, n),
        )
        row = cur.fetchone()
        same("insert", row[1:], values)
        cur.execute("SAVEPOINT here")
        try:
            cur.execute("INSERT INTO item SELECT * FROM item WHERE id = %s", (row[0],))
            raise AssertionError("a key came twice")
        except psycopg2.errors.UniqueViolation:
            cur.execute("ROLLBACK TO SAVEPOINT here")
        cur.execute("UPDATE item SET feeling = 'happy' WHERE id = %s RETURNING feeling", (row[0],))
        same("update", cur.fetchone(), ("happy",))
        cur.execute("DELETE FROM item WHERE id = %s", (row[0],))
        same("delete", cur.rowcount, 1)
    with conn, conn.cursor() as cur:
        cur.copy_expert("COPY copied FROM STDIN", io.StringIO("".join(f"{NAME}\t{i}\t{feeling}\n" for i in range(100))))
        same("copy in", cur.rowcount, 100)
        out = io.StringIO()
        cur.copy_expert("COPY (SELECT n, feeling FROM copied WHERE loop = '%s' ORDER BY n) TO STDOUT" % NAME, out)
        same("copy out", out.getvalue().split("\n")[99], f"99\t{feeling}")
        cur.execute("DELETE FROM copied WHERE loop = %s", (NAME,))
    with conn, conn.cursor("a_cursor") as cur:
        cur.itersize = 2
        cur.execute("SELECT feeling, feelings FROM reference ORDER BY id")
        same("cursor", list(cur), [want[:2] for want in stdio.REFERENCE.values()])
    meet(conn)
    conn.autocommit = True
    with conn.cursor() as cur:
        for tenant, want in stdio.TENANTS.items():
            cur.execute("SELECT set_config('app.tenant', %s, false)", (tenant,))
            cur.execute("SELECT n FROM account ORDER BY n")
            same("tenant " + tenant, [v for v, in cur], want)
        cur.execute("SELECT pg_notify(%s, %s)", (NAME, str(n)))
        while not conn.notifies:
            select.select([conn], [], [])
            conn.poll()
        same("notification", conn.notifies.pop(0).payload, str(n))
    conn.autocommit = False


def main():
    stdio.watch()
    conn = psycopg2.connect("")
    stdio.say(driver="psycopg2", version=f"{psycopg2.__version__.split()[0]} (libpq {psycopg2.extensions.libpq_version()})")
    register(conn)
    n = 0
    while not stdio.stopped.is_set():
        n += 1
        one_round(conn, n)
        stdio.say(round=n, operations=stdio.operations)
    conn.close()


try:
    main()
except Exception as error:
    stdio.failed(error)
