package proxy

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/session"
	"crossfade/proxy/wire"
)

// TestNumbersFromBeforeASwitchHitNobodyElse: what a client was told at its login stands
// for its session, and for no backend that has that number on the other side.
func TestNumbersFromBeforeASwitchHitNobodyElse(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	c, other, gone := g.rawDial(t), g.rawDial(t), g.rawDial(t)
	c.sql(fmt.Sprintf("SELECT count(*) FROM pg_stat_activity WHERE pid = %d", other.pid))
	infos := g.Sessions(within(t), true)
	require.Equal(t, "amber", infos[0].Verdict)
	require.Equal(t, "backend_numbers", infos[0].Reasons[0].Code)
	require.Equal(t, "green", infos[1].Verdict)
	g.toTarget(t)
	require.Equal(t, other.sql("SELECT pg_backend_pid()"), c.sql(fmt.Sprintf("SELECT pid FROM pg_stat_activity WHERE pid = %d", other.pid)))

	// A session outside the proxy has, on the target, the number that a client knows as its own.
	bystander := pgtest.Conn(t, g.target)
	directPID := bystander.PgConn().PID()
	known := func(c *raw, pid uint32) { // as if that was what it was told at its login
		session.DoorOf(g.sessions.Find(c.pid)).Renumber(pid)
	}
	known(other, directPID)
	server := other.sql("SELECT pg_backend_pid()")
	number := fmt.Sprint(directPID)
	require.NotEqual(t, number, server)

	simple := func(call string) string { return c.sql(strings.ReplaceAll(call, "$1", number)) }
	literal := func(call string) string {
		c.ask(parsed("l", strings.ReplaceAll(call, "$1", number)))
		defer c.sql("DEALLOCATE l")
		return c.ask(bound("l"))
	}
	text := func(call string) string {
		c.ask(parsed("n", call))
		defer c.sql("DEALLOCATE n")
		return c.ask(bound("n", number))
	}
	for _, ask := range []func(string) string{simple, literal, text} {
		require.Equal(t, server, ask("SELECT pid FROM pg_stat_activity WHERE pid = $1"))
		require.Equal(t, "t", ask("SELECT pg_cancel_backend($1)"))
	}
	require.Equal(t, server, c.sql("SELECT pid FROM pg_stat_activity WHERE pid IN (0, "+number+")"))
	c.ask(parsed("a", "SELECT pid FROM pg_stat_activity WHERE pid = ANY($1)"))
	require.Equal(t, server, c.ask(bound("a", "{0,"+number+"}")))
	require.Equal(t, number, c.sql("SELECT "+number+" FROM pg_stat_activity LIMIT 1"), "any other number is what it is")

	// Binary, and in single bytes.
	c.ask(parsed("b", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1"))
	frame := wire.AppendBind(nil, "", "b", []int16{1}, [][]byte{binary.BigEndian.AppendUint32(nil, directPID)}, nil)
	for _, b := range wire.AppendSync(wire.AppendExecute(frame, "", 0)) {
		c.send([]byte{b})
	}
	require.Equal(t, "t", answer(t, c.until('Z')))
	require.Equal(t, "1", value(t, bystander, "1"), "the one that has the number goes on")

	// A session that has ended is nobody.
	known(gone, directPID+1)
	_ = gone.conn.Close()
	eventually(t, "it has left", func() bool { now, _ := g.sessions.Pids.BackendOf(directPID + 1); return now == 1<<31-1 })
	require.Equal(t, "f", c.sql(fmt.Sprintf("SELECT pg_terminate_backend(%d)", directPID+1)))
	require.True(t, g.sessions.Misleads(directPID+1), "no server of ours is to have such a number")
}

// What a statement that was prepared before a switch is given is translated as in one that was
// prepared after it, and a server that is made in the place of a lost one knows them too.
func TestNumbersInStatementsFromBeforeASwitch(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	c, other := g.rawDial(t), g.rawDial(t)
	const ask = "SELECT pid FROM pg_stat_activity WHERE pid = $1"
	c.ask(parsed("s1", ask))
	c.sql("PREPARE q1 (int, int) AS SELECT pid FROM pg_stat_activity WHERE pid = $2 AND $1 > 0")
	c.ask(parsed("", ask))
	number := fmt.Sprint(other.pid)
	g.toTarget(t)
	server := other.sql("SELECT pg_backend_pid()")
	require.NotEqual(t, number, server)
	require.Equal(t, server, c.ask(bound("", number)), "the unnamed one")
	all := func(when string) {
		require.Equal(t, server, c.ask(bound("s1", number)), when)
		require.Equal(t, server, c.ask(bound("q1", number, number)), when)
		require.Equal(t, server, c.sql("EXECUTE q1 ("+number+", "+number+")"), when)
		require.Equal(t, server, c.sql("EXECUTE s1 ('"+number+"')"), when)
	}
	all("prepared before")
	require.Equal(t, server, c.sql("PREPARE q2 AS "+ask+"; EXECUTE q2 ("+number+")"), "prepared after")
	require.Equal(t, server, c.sql("EXECUTE q2 ("+number+")"))
	pid := c.sql("SELECT pg_backend_pid()")
	g.known(t, c.pid)
	run(t, pgtest.Conn(t, pgtest.Shared(t, pgtest.Target).AdminDSN("postgres")), "SELECT pg_terminate_backend("+pid+", 10000)")
	eventually(t, "it is revived", func() bool { return g.Status().Revived == 1 })
	all("on a server made since")
	require.Equal(t, server, c.sql("EXECUTE q2 ("+number+")"))
}
