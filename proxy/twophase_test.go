package proxy

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/session"
	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

// TestAPauseLetsPreparedTransactionsEnd: a COMMIT PREPARED is no part of a transaction, and
// would be held at the gate while the fence waits for the locks of what it ends.
func TestAPauseLetsPreparedTransactionsEnd(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	g.both(t, "CREATE TABLE public.t (id int)")
	simple, extended, other := g.rawDial(t), g.rawDial(t), g.rawDial(t)
	gid := func(name string) string { return "'" + name + " " + g.source.Database() + "'" }
	for c, name := range map[*raw]string{simple: "simple", extended: "extended"} {
		require.Equal(t, "CZ", c.query("BEGIN"))
		require.Equal(t, "CZ", c.query("INSERT INTO public.t VALUES (1)"))
		require.Equal(t, "CZ", c.query("PREPARE TRANSACTION "+gid(name)))
	}
	paused := make(chan error, 1)
	ctx := within(t)
	go func() {
		_, err := g.Pause(ctx, 1, time.Minute)
		paused <- err
	}()
	eventually(t, "all but these stand still", func() bool { return g.Status().Closed && g.Status().Parked == 3 })
	other.send(wiretest.AppendQuery(nil, "SELECT 'held'"))
	require.Equal(t, "CZ", simple.query("commit /* the first */ prepared "+gid("simple")+";"))
	require.Empty(t, paused, "the other one is left")
	unit := wire.AppendBind(wire.AppendParse(nil, "", "ROLLBACK PREPARED "+gid("extended"), nil), "", "", nil, nil, nil)
	extended.send(wire.AppendSync(wire.AppendExecute(unit, "", 0)))
	require.Equal(t, "12CZ", shape(extended.until('Z')))
	require.NoError(t, <-paused)
	require.Equal(t, "0", value(t, pgtest.Conn(t, g.source), "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()"))
	simple.send(wiretest.AppendQuery(nil, "COMMIT PREPARED "+gid("none")))
	eventually(t, "at the closed gate all are held", func() bool { return g.waiting() == 2 })
	require.NoError(t, g.Resume(ctx, 1))
	require.Equal(t, "held", one(t, other.until('Z')))
	require.Equal(t, "EZ", shape(simple.until('Z')))
}

func TestAPreparedTransactionThatStaysIsNamed(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	c := g.rawDial(t)
	name := "kept " + g.source.Database()
	require.Equal(t, "CZ", c.query("BEGIN"))
	require.Equal(t, "CZ", c.query("PREPARE TRANSACTION '"+name+"'"))
	defer run(t, pgtest.Conn(t, g.source), "ROLLBACK PREPARED '"+name+"'")
	_, err := g.Pause(within(t), 1, 2*time.Second)
	var late *DrainTimeoutError
	require.ErrorAs(t, err, &late)
	require.ErrorContains(t, err, "transaction '"+name+"', prepared by "+g.source.User()+", is not ended: COMMIT PREPARED or ROLLBACK PREPARED it")
	require.Equal(t, "TDCZ", c.query("SELECT 1"))
}

// TestATransactionThatNobodyAskedAboutIsNotClaimed: the connection to ask with cannot always be
// had, and then nobody knows.
func TestATransactionThatNobodyAskedAboutIsNotClaimed(t *testing.T) {
	t.Parallel()
	var unknown atomic.Bool
	g := newRig(t, func(c *Config) {
		c.Auth = trustAll{}
		known := c.Source.Credentials
		c.Source.Credentials = func(user string) (string, string, bool) {
			if unknown.Load() {
				return "", "", false
			}
			return known(user)
		}
	})
	c := g.rawDial(t)
	name := "ended " + g.source.Database()
	require.Equal(t, "CZ", c.query("BEGIN"))
	require.Equal(t, "CZ", c.query("PREPARE TRANSACTION '"+name+"'"))
	run(t, pgtest.Conn(t, g.source), "ROLLBACK PREPARED '"+name+"'") // past the proxy
	unknown.Store(true)
	_, err := g.Pause(within(t), 1, 500*time.Millisecond)
	var late *DrainTimeoutError
	require.ErrorAs(t, err, &late)
	require.ErrorContains(t, err, "cannot be asked")
	require.NotContains(t, err.Error(), "is not ended")

	paused := make(chan error, 1)
	ctx := within(t)
	go func() {
		_, err := g.Pause(ctx, 2, time.Minute)
		paused <- err
	}()
	eventually(t, "it stands still", func() bool { return g.Status().Parked == 1 })
	unknown.Store(false)
	require.NoError(t, <-paused, "it asks again")
	require.NoError(t, g.Resume(ctx, 2))
}

func TestWhatEndsAPreparedTransaction(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"COMMIT PREPARED 'x'": true, " rollback\n prepared E'x' ; \x00": true, "/* a */ COMMIT -- b\n PREPARED 'x'": true,
		"COMMIT": false, "ROLLBACK TO prepared": false, "COMMIT PREPARED 'x'; DROP TABLE t": false, "PREPARE TRANSACTION 'x'": false,
		"SELECT 'COMMIT PREPARED'": false, "COMMIT PREPARED": false, "": false,
	} {
		require.Equal(t, want, session.EndsPrepared(text), text)
	}
}
