package session

import (
	"bytes"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/proxy/backend"
	"crossfade/proxy/side"
	"crossfade/proxy/wire/wiretest"
)

// What a session of these tests logs. Its server has given no cancel key, so that each request to
// cancel is logged instead of being made.
const (
	logAsked = "cancel request not passed on"
	logGone  = "client is gone"
	logStays = "a statement of a client that is gone does not end"
)

// uncancelled is a session whose requests to cancel are counted in its log, with the server's end
// of its connection.
func uncancelled(t *testing.T) (r *Session, far net.Conn, logged func(message string) int) {
	t.Helper()
	var log bytes.Buffer
	near, far := net.Pipe()
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	p := NewRegistry(zerolog.Nop(), (&side.Sides{}).Limit(1), Limits{})
	r = newRelay(t.Context(), p, Identity{}, nil)
	r.Log = zerolog.New(&log)
	r.mu.server = &server{conn: &backend.Conn{Conn: near}}
	_, _ = r.mu.tracker.Client(wiretest.AppendQuery(nil, "SELECT 1"))
	require.True(t, r.mu.tracker.Working())
	return r, far, func(message string) int { return bytes.Count(log.Bytes(), []byte(message)) }
}

// TestAServerIsAskedToCancelFiveTimes, with longer and longer pauses, and then never again: what
// does not heed it is named once a minute.
func TestAServerIsAskedToCancelFiveTimes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, _, logged := uncancelled(t)
		o := abandoned{r: r}
		begin, asked, named := time.Now(), []time.Duration(nil), []time.Duration(nil)
		for time.Since(begin) <= 3*time.Minute {
			o.cancel()
			if logged(logAsked) > len(asked) {
				asked = append(asked, time.Since(begin))
			}
			if logged(logStays) > len(named) {
				named = append(named, time.Since(begin))
			}
			time.Sleep(50 * time.Millisecond)
		}
		ms := func(n ...time.Duration) []time.Duration {
			for i := range n {
				n[i] *= time.Millisecond
			}
			return n
		}
		require.Equal(t, ms(0, 250, 750, 1750, 3750), asked)
		require.Equal(t, ms(7750, 67750, 127750), named)
		require.Equal(t, 5, logged(logAsked))
		require.Equal(t, 3, logged(logStays))
		require.Equal(t, 1, logged(logGone))
		require.EqualValues(t, 1, r.p.Counts.Abandoned.Load())
	})
}

// TestAServerThatIsLetGoIsAskedToCancelThreeTimes, and not again once it rests.
func TestAServerThatIsLetGoIsAskedToCancelThreeTimes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, _, logged := uncancelled(t)
		begin := time.Now()
		r.work.leaveNothingAtWork(errors.New("shutdown"))
		require.Equal(t, 3, logged(logAsked))
		require.Equal(t, 1750*time.Millisecond, time.Since(begin))
		require.EqualValues(t, 1, r.p.Counts.Abandoned.Load())
	})
	synctest.Test(t, func(t *testing.T) {
		r, far, logged := uncancelled(t)
		go func() {
			time.Sleep(300 * time.Millisecond) // after the second request
			_, _ = far.Write([]byte("C\x00\x00\x00\x0dSELECT 1\x00Z\x00\x00\x00\x05I"))
		}()
		r.work.leaveNothingAtWork(errors.New("shutdown"))
		require.Equal(t, 2, logged(logAsked))
	})
}

// A session that rests and is wanted has nothing to cancel: requests that never end would keep it
// from being taken.
func TestARestingSessionThatIsWantedIsNotCancelled(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]func(r *Session){
		"gate":  func(r *Session) { r.mu.hold.gate = true },
		"owner": func(r *Session) { r.mu.hold.wanted = true },
	} {
		r, _, logged := uncancelled(t)
		want(r)
		r.work.cancelServer(t.Context())
		require.Equal(t, 1, logged(logAsked), "%s: what works is cancelled", name)
		_, _ = r.mu.tracker.Server([]byte("C\x00\x00\x00\x0dSELECT 1\x00Z\x00\x00\x00\x05I"))
		require.True(t, r.mu.tracker.Boundary())
		r.work.cancelServer(t.Context())
		require.Equal(t, 1, logged(logAsked), name)
		r.toServer.Store(true)
		r.work.cancelServer(t.Context())
		require.Equal(t, 2, logged(logAsked), "%s: what is on its way is cancelled", name)
		r.toServer.Store(false)
		r.mu.hold.gate, r.mu.hold.wanted = false, false
		r.work.cancelServer(t.Context())
		require.Equal(t, 3, logged(logAsked), "%s: as PostgreSQL passes it on", name)
	}
}
