package daemon

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/control"
	"crossfade/internal/pg"
	"crossfade/internal/pgcluster/pgtest"
)

func TestAWatcherStopsACutoverOrWarns(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	source, target := newLink(dsn), newLink(dsn)
	t.Cleanup(source.close)
	t.Cleanup(target.close)
	answer := map[string][]notice{}
	var unanswered error
	asked := map[string]int{}
	one := func(name string) watcher {
		return watcher{name: name, ask: func(context.Context, *pgx.Conn, *pgx.Conn) ([]notice, error) {
			asked[name]++
			return answer[name], unanswered
		}}
	}
	quick, slow, seldom := one("quick"), one("slow"), one("seldom")
	quick.fenced, seldom.every = true, 3
	w := newWatchlist(source, target, zerolog.Nop(), quick, slow, seldom)

	unseen := w.blocked(true)
	require.Len(t, unseen, 1, "nobody knows yet")
	require.Equal(t, "not_watched_yet", unseen[0].Code)
	require.Empty(t, w.blocked(false), "while rows are copied the phase says why")
	require.NoError(t, w.look(ctx, false))
	require.NoError(t, w.look(ctx, false))
	require.Empty(t, w.blocked(true))
	require.Equal(t, map[string]int{"quick": 2, "slow": 2, "seldom": 1}, asked)
	require.NoError(t, w.look(ctx, true))
	require.Equal(t, map[string]int{"quick": 2, "slow": 2, "seldom": 1}, asked, "nobody is asked early who did not ask for it")
	require.NoError(t, w.confirm(ctx, true))
	require.Equal(t, map[string]int{"quick": 3, "slow": 2, "seldom": 1}, asked, "under the fence only what is quick is asked")

	answer["slow"] = []notice{{Blocker: control.Blocker{Code: "a", Detail: "it differs"}}, {Blocker: control.Blocker{Code: "b"}, warns: true}}
	var stops *WatchedError
	require.ErrorAs(t, w.confirm(ctx, false), &stops)
	require.Equal(t, []control.Blocker{{Code: "a", Detail: "it differs"}}, stops.Blockers)
	require.NoError(t, w.confirm(ctx, true))
	s := control.Status{}
	w.status(&s)
	require.Len(t, s.Warnings, 1)
	require.Equal(t, []control.Blocker{{Code: "a", Detail: "it differs"}}, w.blocked(true))

	answer["slow"] = nil
	require.NoError(t, w.look(ctx, false))
	require.Empty(t, w.blocked(true), "what is gone blocks no more")

	unanswered = errors.New("permission denied")
	require.ErrorContains(t, w.confirm(ctx, false), "permission denied", "a question without an answer is no good answer")
	require.Equal(t, "not_watched", w.notices()[0].Code)
	require.Contains(t, w.blocked(true)[0].Detail, "permission denied")
	unanswered = context.DeadlineExceeded
	require.ErrorIs(t, w.confirm(ctx, false), context.DeadlineExceeded)
}

// watching is a watchlist whose watchers are a test's.
func watching(t *testing.T, watchers ...watcher) *watchlist {
	t.Helper()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	source, target := newLink(dsn), newLink(dsn)
	t.Cleanup(source.close)
	t.Cleanup(target.close)
	return newWatchlist(source, target, zerolog.Nop(), watchers...)
}

// A question that takes too long is no reason to ask no other, and gets more time.
func TestAWatcherThatTakesTooLongKeepsNoOtherFromItsAnswer(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	asked := map[string]int{}
	quick := func(name string, every int) watcher {
		return watcher{name: name, every: every, ask: func(ctx context.Context, source, _ *pgx.Conn) ([]notice, error) {
			asked[name]++
			return nil, source.Ping(ctx)
		}}
	}
	waits := watcher{name: "waits", every: 5, ask: func(ctx context.Context, source, _ *pgx.Conn) ([]notice, error) {
		asked["waits"]++
		if d, _ := ctx.Deadline(); time.Until(d) > time.Minute { // as much as it needs
			return nil, nil
		}
		_, err := source.Exec(ctx, "SELECT pg_catalog.pg_sleep(60)")
		return nil, err
	}}
	w := watching(t, quick("before", 1), waits, quick("after", 5))
	w.standing("waits").patience = 20 * time.Millisecond
	require.Error(t, w.look(ctx, false))
	require.Equal(t, map[string]int{"before": 1, "waits": 1, "after": 1}, asked, "its session was lost, and the next one has another")
	why := w.blocked(true)
	require.Len(t, why, 1)
	require.Contains(t, why[0].Detail, "waits: ")
	require.NotContains(t, why[0].Detail, "after")
	require.Error(t, w.look(ctx, false))
	require.Equal(t, map[string]int{"before": 2, "waits": 2, "after": 1}, asked, "who had no answer is asked in the next round")
	require.Equal(t, 80*time.Millisecond, w.standing("waits").patience)
	w.standing("waits").patience = time.Hour
	require.NoError(t, w.look(ctx, false))
	require.Empty(t, w.blocked(true))
}

// A round that has no time for all watchers comes to the others in the next ones.
func TestARoundWithoutTimeForAllLeavesOutOthersEachTime(t *testing.T) {
	t.Parallel()
	var asked []string
	slow := func(name string) watcher {
		return watcher{name: name, ask: func(context.Context, *pgx.Conn, *pgx.Conn) ([]notice, error) {
			asked = append(asked, name)
			return nil, nil
		}}
	}
	w := watching(t, slow("a"), slow("b"), slow("c"))
	w.round = 7
	w.standing("a").asked, w.standing("b").asked = time.Now(), time.Now().Add(-time.Second) // a round ended before c
	w.standing("a").due = 7
	_, due := w.turn(false)
	for _, x := range due {
		asked = append(asked, x.name)
	}
	require.Equal(t, []string{"c", "b", "a"}, asked)
}

// A look through rows rests by what it took.
func TestAScanRestsByWhatItTook(t *testing.T) {
	t.Parallel()
	asked := 0
	scan := watcher{name: "scan", rest: restScan, ask: func(ctx context.Context, source, _ *pgx.Conn) ([]notice, error) {
		asked++
		_, err := source.Exec(ctx, "SELECT pg_catalog.pg_sleep(0.1)")
		return nil, err
	}}
	w := watching(t, scan)
	begin := time.Now()
	require.NoError(t, w.look(t.Context(), false))
	require.NoError(t, w.look(t.Context(), false))
	require.Equal(t, 1, asked)
	require.Greater(t, w.standing("scan").rests.Sub(begin), restAfterScan*100*time.Millisecond)
	require.NoError(t, w.confirm(t.Context(), false))
	require.Equal(t, 2, asked, "a cutover asks all the same")
}

// The last good answer of a question that is answered no more does not count for ever, and counts
// for as long as a server needs to restart.
func TestAnAnswerThatIsTooOldIsNone(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	var fails error
	w := watching(t, watcher{name: "first", ask: func(context.Context, *pgx.Conn, *pgx.Conn) ([]notice, error) { return nil, fails }},
		watcher{name: "last", ask: func(context.Context, *pgx.Conn, *pgx.Conn) ([]notice, error) { return nil, nil }})
	require.NoError(t, w.look(ctx, false))
	old := func() { w.standing("first").answered = time.Now().Add(-2 * staleAge) }
	old()
	require.Empty(t, w.blocked(true), "nobody has asked since: a cutover was under way")
	fails = &pgconn.PgError{Code: pg.CodeLockNotAvailable, Message: "lock timeout"}
	for range staleMisses - 1 {
		require.Error(t, w.look(ctx, false))
	}
	require.Empty(t, w.blocked(true), "that may happen under load")
	require.Error(t, w.look(ctx, false))
	why := w.blocked(true)
	require.Len(t, why, 1)
	require.Equal(t, "not_watched_yet", why[0].Code)
	require.Contains(t, why[0].Detail, "first: ")
	require.Contains(t, why[0].Detail, "lock timeout")
	require.Contains(t, why[0].Remedy, "by itself")
	w.standing("first").answered = time.Now()
	require.Empty(t, w.blocked(true), "a moment ago it was answered")
	old()
	fails = nil
	require.NoError(t, w.look(ctx, false))
	require.Empty(t, w.blocked(true))

	// Where there is no session, nobody is asked, the last one neither.
	away, err := pg.ParseDSN("host=" + t.TempDir() + " dbname=postgres user=postgres")
	require.NoError(t, err)
	w.source = newLink(away)
	for range staleMisses {
		require.Error(t, w.look(ctx, false))
	}
	w.standing("last").answered = time.Now().Add(-2 * staleAge)
	require.Contains(t, w.blocked(true)[0].Code, "not_watched_yet")
}
