package proxy

import (
	"context"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

// TestRow4 has settings that a role and a database give to their sessions, custom ones too, hold at
// the target for sessions that moved and for new ones, and has RESET go back to them.
func TestRow4SettingsOfRolesAndDatabases(t *testing.T) {
	t.Parallel()
	var pins []wire.Param
	g := newRig(t, func(c *Config) {
		c.Target.Pins = func(context.Context, string, string) ([]wire.Param, error) { return pins, nil }
	})
	g.apart(t)
	super := pgtest.Conn(t, pgtest.Shared(t, pgtest.Source).AdminDSN("postgres"))
	run(t, super, "ALTER ROLE "+g.source.User()+" SET app.role_wide = 'of the role'")
	run(t, super, "ALTER DATABASE "+g.source.Database()+" SET app.database_wide = 'a b\\c'")
	run(t, super, "ALTER ROLE "+g.source.User()+" IN DATABASE "+g.source.Database()+" SET lock_timeout = '55s'")
	var err error
	pins, err = ReadPins(within(t), g.sides.Source, g.source.User(), g.source.Database())
	require.NoError(t, err)
	moved := g.dial(t, simply)
	run(t, moved, "SET app.role_wide = 'its own'")
	g.toTarget(t)
	fresh := g.dial(t, simply)
	ask := "SELECT concat_ws('|', current_setting('app.role_wide'), current_setting('app.database_wide'), current_setting('lock_timeout'))"
	require.Equal(t, `its own|a b\c|55s`, says(t, moved, ask))
	require.Equal(t, `of the role|a b\c|55s`, says(t, fresh, ask))
	for range 2 {
		for _, conn := range []*pgx.Conn{moved, fresh} {
			run(t, conn, "SET app.database_wide = 'x'; SET lock_timeout = 0")
			run(t, conn, "DISCARD ALL")
			require.Equal(t, `of the role|a b\c|55s`, says(t, conn, ask))
		}
		g.toSource(t)
		g.toTarget(t)
	}
}

func TestRow6RoleThatTheTargetLacksIsNamed(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.apart(t)
	role := "r" + g.source.Database()
	admin := pgtest.Conn(t, pgtest.Shared(t, pgtest.Source).AdminDSN("postgres"))
	run(t, admin, "CREATE ROLE "+role+"; GRANT "+role+" TO "+g.source.User())
	t.Cleanup(func() { run(t, admin, "DROP ROLE "+role) })
	conn := g.dial(t, simply)
	run(t, conn, "SET ROLE "+role)
	_, err := g.Stage(within(t), 1)
	require.ErrorContains(t, err, "setting role")
	require.Equal(t, role, says(t, conn, "SELECT current_user"))
	run(t, conn, "RESET ROLE")
	g.epoch = 1
	g.toTarget(t)
	require.Equal(t, g.target.User(), says(t, conn, "SELECT current_user"))
}

func TestRow9StatementsOfTheProtocol(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	g.apart(t)
	g.both(t, "CREATE TABLE public.t (m public.mood)", "CREATE SCHEMA later", "CREATE TABLE later.t (m int)")
	c := g.rawDial(t)
	parse := func(name, sql string, types ...uint32) {
		t.Helper()
		c.send(wire.AppendSync(wire.AppendParse(nil, name, sql, types)))
		require.Equal(t, "1Z", shape(c.until('Z')))
	}
	execute := func(name string, params ...[]byte) string {
		t.Helper()
		c.send(wire.AppendSync(wire.AppendExecute(wire.AppendBind(nil, "", name, nil, params, nil), "", 0)))
		return shape(c.until('Z'))
	}
	parse("begin", "BEGIN") // of which SQL makes no prepared statement
	parse(`odd "name";`, "SELECT $1::int + $2", 0, 20)
	parse("closed", "SELECT 1")
	parse("dropped", "SELECT 1")
	parse("typed", "INSERT INTO public.t VALUES ($1)")
	parse("empty", "")
	c.send(wire.AppendSync(wire.AppendClose(nil, 'S', "closed")))
	require.Equal(t, "3Z", shape(c.until('Z')))
	require.Equal(t, "CZ", c.query("DEALLOCATE dropped"))
	for range 4 {
		g.moveTo(t, g.sides.Other().Name)
		require.Equal(t, "2CZ", execute("begin"))
		require.Equal(t, "2CZ", execute("typed", []byte("ok")))
		require.Equal(t, "CZ", c.query("COMMIT"))
		require.Equal(t, "2DCZ", execute(`odd "name";`, []byte("1"), []byte("2")))
		require.Equal(t, "2IZ", execute("empty"))
		require.Equal(t, "EZ", execute("closed"))
		require.Equal(t, "EZ", execute("dropped"))
	}
	require.Equal(t, "2", value(t, pgtest.Conn(t, g.source), "SELECT count(*) FROM public.t"))
	require.Equal(t, "2", value(t, pgtest.Conn(t, g.target), "SELECT count(*) FROM public.t"))
}

func TestRows22And23KeysAndPIDs(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	g.apart(t)
	c, other := g.rawDial(t), g.rawDial(t)
	pid := func(of *raw) string {
		of.send(wiretest.AppendQuery(nil, "SELECT pg_backend_pid()"))
		frames := of.until('Z')
		cols, err := wire.DecodeDataRow(nil, frames[1].Body)
		require.NoError(t, err)
		return string(cols[0])
	}
	before := pid(c)
	for range 3 {
		g.moveTo(t, g.sides.Other().Name)
		require.NotEqual(t, before, pid(c), "row 23: what SQL tells is another")
		c.send(wiretest.AppendQuery(nil, "SELECT pg_sleep(600)"))
		at := map[string]pg.DSN{Source: g.source, Target: g.target}[g.Status().Active]
		watch := pgtest.Conn(t, at)
		eventually(t, "it sleeps", func() bool {
			return value(t, watch, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()") == "1"
		})
		g.sessions.Cancel(t.Context(), other.pid, c.key) // another's key
		g.sessions.Cancel(t.Context(), c.pid, c.key)
		frames := c.until('Z')
		require.Equal(t, "TEZ", shape(frames))
		e, err := wire.DecodeError(frames[1].Body)
		require.NoError(t, err)
		require.Equal(t, pg.CodeQueryCanceled, e.Code, "row 22: the key from before still cancels")
	}
}

func TestRow24EncodingThatDiffersIsRefused(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	admin := pgtest.Conn(t, pgtest.Shared(t, pgtest.Target).AdminDSN("postgres"))
	name := "l" + g.target.Database()
	run(t, admin, "CREATE DATABASE "+name+" OWNER "+g.target.User()+" ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
	t.Cleanup(func() { run(t, admin, "DROP DATABASE "+name+" WITH (FORCE)") })
	g.stop()
	g.start(t, func(c *Config) {
		c.Target.Database = func(string) string { return name }
	})
	conn := g.dial(t)
	_, err := g.Stage(within(t), 1)
	require.ErrorContains(t, err, "encoding of the database: UTF8 here, LATIN1 there")
	require.Equal(t, "1", value(t, conn, "1"))
}

func TestRow30ConnectionsOfForeignServers(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.apart(t)
	for k, dsn := range map[pgtest.Kind]pg.DSN{pgtest.Source: g.source, pgtest.Target: g.target} {
		admin := pgtest.Conn(t, pgtest.Shared(t, k).AdminDSN(dsn.Database()))
		run(t, admin, "CREATE EXTENSION postgres_fdw; GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO PUBLIC")
		own := pgtest.Conn(t, dsn)
		run(t, own, "CREATE TABLE public.here (n int); INSERT INTO public.here VALUES (7)")
		run(t, own, "CREATE SERVER itself FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '"+dsn.Host()+"', port '"+strconv.Itoa(dsn.Port())+"', dbname '"+dsn.Database()+"')")
		run(t, own, "CREATE USER MAPPING FOR PUBLIC SERVER itself OPTIONS (user '"+dsn.User()+"', password '"+dsn.Password()+"')")
		run(t, own, "CREATE FOREIGN TABLE public.there (n int) SERVER itself OPTIONS (table_name 'here')")
	}
	conn := g.dial(t, simply)
	for range 3 {
		require.Equal(t, "7", says(t, conn, "SELECT n FROM public.there"))
		g.epoch++
		report, err := g.Stage(within(t), g.epoch)
		require.NoError(t, err)
		require.Len(t, report.Amber, 1)
		require.Equal(t, "fdw_connections", report.Amber[0].Code)
		g.moveTo(t, g.sides.Other().Name)
	}
}

func TestRow33WhatIdleServersSay(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	g.apart(t)
	before, stays := g.rawDial(t), g.rawDial(t)
	require.Equal(t, "CZ", before.query("SET idle_session_timeout = '1ms'"), "FATAL follows")
	require.Equal(t, "57P05", before.gone().Code, "told while it was idle, ahead of any capture")
	require.Equal(t, "CZ", stays.query("SET idle_session_timeout = '10min'"))
	old := g.ServerPIDs()
	g.toTarget(t)
	run(t, pgxAdmin(t, g), "SELECT pg_terminate_backend(p) FROM unnest($1::int[]) p", old)
	require.Equal(t, "TDCZ", stays.query("SELECT 1"), "what becomes of the old server is nobody's business")
	require.Equal(t, "TDCZ", stays.query("SELECT current_setting('idle_session_timeout')"))
}
