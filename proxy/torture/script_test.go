package torture

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

// script is what a client does, in steps: a write, and what it waits for after it. It begins and
// ends at a boundary.
type script struct {
	name  string
	steps []step
	big   bool // not to be written byte by byte
}

type step struct {
	send []byte
	wait byte // type of a frame to wait for, 0 for none
}

// Building blocks: what a client sends.
var (
	syncNow  = wire.AppendSync(nil)
	flush    = wiretest.AppendFlush(nil)
	copyDone = wire.AppendFrame(nil, 'c', nil)
	copyFail = wire.AppendFrame(nil, 'f', []byte("no more\x00"))
	good     = wire.AppendFrame(nil, 'd', []byte("1\n"))
	bad      = wire.AppendFrame(nil, 'd', []byte("x\n"))
)

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func query(sql string) []byte { return wiretest.AppendQuery(nil, sql) }

func parse(name, sql string) []byte { return wire.AppendParse(nil, name, sql, nil) }

func bind(statement string, values ...string) []byte {
	params := make([][]byte, len(values))
	for i, v := range values {
		params[i] = []byte(v)
	}
	return wire.AppendBind(nil, "", statement, nil, params, nil)
}

func execute(rows uint32) []byte { return wire.AppendExecute(nil, "", rows) }

// unit is a statement by the extended protocol, without its Sync.
func unit(sql string) []byte {
	return join(parse("", sql), bind(""), wire.AppendDescribe(nil, 'P', ""), execute(0))
}

// call is a FunctionCall of a function without arguments.
func call(oid uint32) []byte {
	return wire.AppendFrame(nil, 'F', append(binary.BigEndian.AppendUint32(nil, oid), 0, 0, 0, 0, 0, 0))
}

const (
	funcPi   = 1610 // OID of pg_catalog.pi()
	copySQL  = "COPY public.t FROM STDIN"
	outSQL   = "COPY (SELECT n, repeat('x', 500) FROM generate_series(1, 3000) n) TO STDOUT"
	halfSQL  = "COPY (SELECT 1 / (1500 - n) FROM generate_series(1, 3000) n) TO STDOUT"
	raiseSQL = "DO $$ BEGIN RAISE NOTICE 'told' USING DETAIL = 'd', HINT = 'h', ERRCODE = '01234'; END $$"
)

// tortureSchema is on both sides.
var tortureSchema = []string{
	"CREATE TABLE public.t (id int)",
	"CREATE TABLE public.late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)",
	"CREATE FUNCTION public.hear(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'heard %', $1; RETURN $1; END $$",
}

// scripts has every boundary case of the protocol.
func scripts() []script {
	once := func(name string, sends ...[]byte) script {
		s := script{name: name}
		for _, b := range sends {
			s.steps = append(s.steps, step{send: b})
		}
		return s
	}
	return []script{
		once("query", query("SELECT 1"), query("SELECT 2")),
		once("two queries in one write", join(query("SELECT 1"), query("SELECT 2"))),
		once("several statements", query("SELECT 1; SELECT 2; SELECT 3")),
		once("several statements, one fails", query("SELECT 1; SELECT 1/0; SELECT 3"), query("SELECT 4")),
		once("empty queries", query(""), join(query(";"), query(" "))),
		once("unit", join(unit("SELECT 1"), syncNow), join(unit("SELECT 'a', 2.5, NULL"), syncNow)),
		once("empty unit", join(unit(""), syncNow)),
		once("syncs alone", join(syncNow, syncNow), syncNow),
		once("flush alone", flush, join(flush, flush, syncNow)),
		once("unnamed statement between syncs", join(parse("", "SELECT $1::int + 1"), syncNow), join(bind("", "41"), execute(0), syncNow), join(bind("", "42"), execute(0), syncNow)),
		once("unnamed statement described late", join(parse("", "SELECT $1::int AS n, $2 || 'x' AS v"), syncNow), join(wire.AppendDescribe(nil, 'S', ""), syncNow), join(bind("", "1", "b"), execute(0), syncNow)),
		once("unnamed statement lost by a query", join(parse("", "SELECT 1"), syncNow), query("SELECT 2"), join(bind(""), execute(0), syncNow)),
		once("unnamed statement lost by an error", join(parse("", "SELECT 1"), syncNow), join(parse("", "SELECT nonsense"), syncNow), join(bind(""), execute(0), syncNow)),
		once("unnamed statement closed", join(parse("", "SELECT 1"), syncNow), join(wire.AppendClose(nil, 'S', ""), syncNow), join(bind(""), syncNow)),
		once("unnamed statement behind a failed unit", join(parse("", "SELECT 7"), syncNow), join(bind("", "too many"), parse("", "SELECT 8"), syncNow), join(bind(""), execute(0), syncNow)),
		once("named statement", join(parse("n", "SELECT $1::text || 'y'"), syncNow), join(bind("n", "x"), execute(0), syncNow), join(wire.AppendDescribe(nil, 'S', "n"), syncNow),
			join(wire.AppendClose(nil, 'S', "n"), syncNow), join(bind("n", "x"), syncNow)),
		once("statement twice", join(parse("n", "SELECT 1"), syncNow), join(parse("n", "SELECT 2"), syncNow), join(wire.AppendClose(nil, 'S', "n"), syncNow)),
		once("pipeline of units", join(unit("SELECT 1"), syncNow, unit("SELECT 2"), syncNow, unit("SELECT 3"), syncNow)),
		{name: "delayed sync", steps: []step{{unit("SELECT 1"), 0}, {flush, 'D'}, {join(unit("SELECT 2"), flush), 'D'}, {syncNow, 0}}},
		{name: "flush at every message", steps: []step{{join(parse("", "SELECT $1::int"), flush), '1'}, {join(bind("", "5"), flush), '2'}, {join(execute(0), flush), 'D'}, {syncNow, 0}}},
		once("error in a pipeline", join(unit("SELECT 1"), unit("SELECT 1/0"), unit("SELECT 2"), query("SELECT 3"), syncNow), join(unit("SELECT 4"), syncNow)),
		{name: "error behind a flush", steps: []step{{join(unit("SELECT 1/0"), flush), 'E'}, {join(unit("SELECT 2"), query("SELECT 3")), 0}, {join(call(funcPi), syncNow), 0}}},
		once("errors of the protocol", join(bind("nowhere"), syncNow), join(wire.AppendExecute(nil, "nowhere", 0), syncNow), join(wire.AppendDescribe(nil, 'P', "nowhere"), syncNow), join(wire.AppendClose(nil, 'S', "nowhere"), syncNow)),
		once("query within a unit", join(parse("", "SELECT 1"), query("SELECT 2")), query("SELECT 3")),
		once("function call", call(funcPi), join(call(funcPi), query("SELECT 1"), call(funcPi))),
		once("function call that fails", call(4_000_000_000), query("SELECT 1")),
		once("transaction", query("BEGIN"), query("SELECT 1"), join(unit("SELECT 2"), syncNow), call(funcPi), query("COMMIT")),
		once("transaction in one write", join(query("BEGIN"), unit("SELECT 1"), syncNow, query("COMMIT"), query("SELECT 2"))),
		once("failed transaction", query("BEGIN"), query("SELECT 1/0"), join(unit("SELECT 2"), syncNow), query("ROLLBACK")),
		once("savepoints", query("BEGIN; SAVEPOINT a"), query("SELECT 1/0"), query("ROLLBACK TO a"), join(unit("SELECT 2"), syncNow), query("RELEASE a"), query("COMMIT")),
		once("commit that fails", query("BEGIN; INSERT INTO public.late VALUES (1), (1)"), query("COMMIT"), query("SELECT 1")),
		once("sync that fails", join(unit("INSERT INTO public.late VALUES (1), (1)"), syncNow), query("SELECT 1")),
		once("chained transactions", query("BEGIN"), query("COMMIT AND CHAIN"), query("SELECT 1"), query("ROLLBACK")),
		once("settings of a transaction", query("BEGIN; SET LOCAL TimeZone = 'Asia/Tokyo'; SET LOCAL app.l = 'x'"), query("SELECT current_setting('app.l')"), query("COMMIT"), query("SHOW TimeZone")),
		once("portal by parts", query("BEGIN"), join(parse("", "SELECT generate_series(1, 5)"), bind(""), execute(2), syncNow), join(execute(2), syncNow), join(execute(0), syncNow), query("COMMIT")),
		{name: "portal by parts, flushed", steps: []step{{join(parse("", "SELECT generate_series(1, 5)"), bind(""), execute(2), flush), 's'}, {join(execute(2), flush), 's'}, {join(execute(0), syncNow), 0}}},
		once("portal suspended and left", join(parse("", "SELECT generate_series(1, 5)"), bind(""), execute(2), syncNow), join(execute(2), syncNow)),
		once("named portals", query("BEGIN"), join(parse("", "SELECT generate_series(1, 5)"), wire.AppendBind(nil, "a", "", nil, nil, nil), wire.AppendBind(nil, "b", "", nil, nil, []int16{1}), syncNow),
			join(wire.AppendExecute(nil, "a", 1), wire.AppendExecute(nil, "b", 2), wire.AppendExecute(nil, "a", 0), syncNow), join(wire.AppendClose(nil, 'P', "a"), wire.AppendExecute(nil, "a", 1), syncNow), query("ROLLBACK")),
		once("cursor", query("BEGIN; DECLARE c SCROLL CURSOR FOR SELECT generate_series(1, 9)"), query("FETCH 3 FROM c"), join(unit("FETCH BACKWARD 2 FROM c"), syncNow), query("CLOSE c; COMMIT")),
		once("binary results", join(parse("", "SELECT 1::int, 2::bigint, 'x'::text, 1.5::numeric, ARRAY[1, 2]"), wire.AppendBind(nil, "", "", nil, nil, []int16{1}), wire.AppendDescribe(nil, 'P', ""), execute(0), syncNow)),

		once("copy in", query(copySQL), join(good, good), copyDone),
		once("copy in, in one write", join(query(copySQL), good, copyDone, query("SELECT 1"))),
		once("copy in, empty", join(query(copySQL), copyDone)),
		once("copy in twice", query(copySQL+";"+copySQL), join(good, copyDone), join(good, good, copyDone)),
		once("copy fail", query(copySQL), good, copyFail, query("SELECT 1")),
		once("copy in that fails", query(copySQL), bad, join(good, copyDone), query("SELECT 1")),
		once("copy in refused", join(query("COPY public.nowhere FROM STDIN"), good, copyDone), query("SELECT 1")),
		once("copy with flush and sync in its data", query(copySQL), join(good, flush, good, syncNow), copyDone),
		once("stray copy data", join(copyDone, good, copyFail), query("SELECT 1"), join(good, copyDone)),
		{name: "extended copy", steps: []step{{join(unit(copySQL), flush), 'G'}, {good, 0}, {copyDone, 0}, {syncNow, 0}}},
		{name: "extended copy, its sync swallowed", steps: []step{{join(unit(copySQL), syncNow), 'G'}, {good, 0}, {join(copyDone, syncNow), 0}}},
		{name: "extended copy, syncs in its data", steps: []step{{join(unit(copySQL), syncNow, syncNow), 'G'}, {join(good, syncNow), 0}, {join(syncNow, copyDone), 0}, {syncNow, 0}}},
		{name: "extended copy in a pipeline", steps: []step{{join(unit(copySQL), good, copyDone, unit("SELECT 1"), syncNow), 0}, {join(unit("SELECT 2"), syncNow), 0}}},
		{name: "extended copy fail", steps: []step{{join(unit(copySQL), flush), 'G'}, {join(good, copyFail), 'E'}, {join(unit("SELECT 1"), syncNow), 0}}},
		{name: "extended copy that fails, data behind", steps: []step{{join(unit(copySQL), flush), 'G'}, {bad, 0}, {copyDone, 'E'}, {join(good, copyDone, copyFail), 0}, {syncNow, 0}}},
		{name: "extended copy refused, data behind", steps: []step{{join(unit("COPY public.nowhere FROM STDIN"), good, copyDone), 0}, {syncNow, 0}, {query("SELECT 1"), 0}}},
		once("copy in within a transaction", query("BEGIN"), query(copySQL), join(good, copyDone), query("COMMIT")),
		once("copy out", query(outSQL), query("SELECT 1")),
		once("copy out, extended", join(unit(outSQL), syncNow), join(unit(outSQL), syncNow)),
		once("copy out, binary", query("COPY (SELECT generate_series(1, 500)) TO STDOUT BINARY"), query("SELECT 1")),
		once("copy out that fails in its middle", query(halfSQL), join(unit(halfSQL), syncNow), query("SELECT 1")),
		once("copy out and data from the client", join(query(outSQL), good, copyDone), query("SELECT 1")),

		once("settings reported", query("SET TimeZone = 'Asia/Tokyo'"), query("SET application_name = 'a b'; SET DateStyle = German"), query("RESET ALL"), query("SHOW TimeZone")),
		once("settings of the application", query("SET app.x = 'of mine'"), query("SELECT current_setting('app.x')"), query("RESET app.x"), query("SELECT current_setting('app.x')")),
		once("another encoding", query("SET client_encoding = LATIN1"), query("SELECT 'gr\xfc\xdfe'"), join(unit("SELECT upper('\xe4')"), syncNow), query("RESET client_encoding")),
		once("bytes that are no text", query("SELECT '\xff'"), join(unit("SELECT '\xc3('"), syncNow), query("SELECT 1")),
		once("own notifications", query("LISTEN torture"), query("NOTIFY torture, 'a'; NOTIFY torture, 'b'"), join(unit("NOTIFY torture, 'c'"), syncNow), query("UNLISTEN *")),
		once("notices", query(raiseSQL), join(unit(raiseSQL), syncNow), join(unit("SELECT public.hear('x')"), syncNow)),
		once("advisory locks", query("SELECT pg_advisory_lock(7)"), query("SELECT pg_try_advisory_lock(7)"), query("SELECT pg_advisory_unlock_all()")),
		once("prepared by SQL", query("PREPARE p (int) AS SELECT $1 * 2"), query("EXECUTE p(21)"), query("DEALLOCATE p"), query("EXECUTE p(21)")),
		once("discard all", query("SET app.y = '1'"), join(parse("k", "SELECT 1"), syncNow), query("DISCARD ALL"), join(bind("k"), syncNow), query("SELECT current_setting('app.y', true)")),

		bigScript("65,535 parameters, unnamed", "", 65535),
		bigScript("65,535 parameters, named", "wide", 65535),
		{name: "large frames", big: true, steps: []step{{query("SELECT length('" + strings.Repeat("x", 1<<20) + "')"), 0}, {query("SELECT repeat('y', 1048576)"), 0},
			{join(parse("", "SELECT $1::text"), bind("", strings.Repeat("z", 300<<10)), execute(0), syncNow), 0}}},
		{name: "large copy", big: true, steps: []step{{query(copySQL), 0}, {bytes.Repeat(good, 30000), 0}, {wire.AppendFrame(nil, 'd', bytes.Repeat([]byte("12\n"), 100000)), 0}, {copyDone, 0}}},
	}
}

// bigScript binds as many parameters as a Bind can have, to a statement that was parsed before.
func bigScript(name, statement string, n int) script {
	var sql strings.Builder
	sql.WriteString("SELECT array_length(ARRAY[$1::int")
	for i := 2; i <= n; i++ {
		fmt.Fprintf(&sql, ",$%d", i)
	}
	sql.WriteString("], 1)")
	values := make([]string, n)
	for i := range values {
		values[i] = fmt.Sprint(i)
	}
	run := join(bind(statement, values...), execute(0), syncNow)
	return script{name: name, big: true, steps: []step{
		{join(parse(statement, sql.String()), wire.AppendDescribe(nil, 'S', statement), syncNow), 0},
		{run, 0}, {run, 0}, {join(wire.AppendClose(nil, 'S', statement), syncNow), 0},
	}}
}

var (
	closeUnnamed = wire.AppendClose(nil, 'S', "")
	closeNamed   = wire.AppendClose(nil, 'S', "n")
)
