package watch

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestAWatcherStopsACutoverOrWarns(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	source, target := dbconn.New(dsn), dbconn.New(dsn)
	t.Cleanup(source.Close)
	t.Cleanup(target.Close)
	answer := map[string][]Notice{}
	var unanswered error
	asked := map[string]int{}
	one := func(name string) Watcher {
		return Watcher{Name: name, Ask: func(context.Context, *pgx.Conn, *pgx.Conn) ([]Notice, error) {
			asked[name]++
			return answer[name], unanswered
		}}
	}
	quick, slow, seldom := one("quick"), one("slow"), one("seldom")
	quick.Fenced, seldom.Every = true, 3
	w := New(source, target, zerolog.Nop(), quick, slow, seldom)

	unseen := w.Blocked(true)
	require.Len(t, unseen, 1, "nobody knows yet")
	require.Equal(t, "not_watched_yet", unseen[0].Code)
	require.Empty(t, w.Blocked(false), "while rows are copied the phase says why")
	require.NoError(t, w.Poll(ctx, false))
	require.NoError(t, w.Poll(ctx, false))
	require.Empty(t, w.Blocked(true))
	require.Equal(t, map[string]int{"quick": 2, "slow": 2, "seldom": 1}, asked)
	require.NoError(t, w.Poll(ctx, true))
	require.Equal(t, map[string]int{"quick": 2, "slow": 2, "seldom": 1}, asked, "nobody is asked early who did not ask for it")
	require.NoError(t, w.Confirm(ctx, true))
	require.Equal(t, map[string]int{"quick": 3, "slow": 2, "seldom": 1}, asked, "under the fence only what is quick is asked")

	answer["slow"] = []Notice{{Blocker: control.Blocker{Code: "a", Detail: "it differs"}}, {Blocker: control.Blocker{Code: "b"}, Warns: true}}
	var stops *WatchedError
	require.ErrorAs(t, w.Confirm(ctx, false), &stops)
	require.Equal(t, []control.Blocker{{Code: "a", Detail: "it differs"}}, stops.Blockers)
	require.NoError(t, w.Confirm(ctx, true))
	s := control.Status{}
	w.Status(&s)
	require.Len(t, s.Warnings, 1)
	require.Equal(t, []control.Blocker{{Code: "a", Detail: "it differs"}}, w.Blocked(true))

	answer["slow"] = nil
	require.NoError(t, w.Poll(ctx, false))
	require.Empty(t, w.Blocked(true), "what is gone blocks no more")

	unanswered = errors.New("permission denied")
	require.ErrorContains(t, w.Confirm(ctx, false), "permission denied", "a question without an answer is no good answer")
	stuck := w.Blocked(true)
	require.Len(t, stuck, 3, "once for each question")
	for _, b := range stuck {
		require.Equal(t, "not_watched", b.Code)
		require.Contains(t, b.Detail, "permission denied")
	}
	unanswered = nil // the cause is removed
	require.NoError(t, w.Confirm(ctx, false))
	require.Empty(t, w.Blocked(true), "it was asked again")
	unanswered = context.DeadlineExceeded
	require.ErrorIs(t, w.Confirm(ctx, false), context.DeadlineExceeded)
}

// watching is a watchlist whose watchers are a test's.
func watching(t *testing.T, watchers ...Watcher) *List {
	t.Helper()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	source, target := dbconn.New(dsn), dbconn.New(dsn)
	t.Cleanup(source.Close)
	t.Cleanup(target.Close)
	return New(source, target, zerolog.Nop(), watchers...)
}

// A question that takes too long is no reason to ask no other, and gets more time.
func TestAWatcherThatTakesTooLongKeepsNoOtherFromItsAnswer(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	asked := map[string]int{}
	quick := func(name string, every int) Watcher {
		return Watcher{Name: name, Every: every, Ask: func(ctx context.Context, source, _ *pgx.Conn) ([]Notice, error) {
			asked[name]++
			return nil, source.Ping(ctx)
		}}
	}
	waits := Watcher{Name: "waits", Every: 5, Ask: func(ctx context.Context, source, _ *pgx.Conn) ([]Notice, error) {
		asked["waits"]++
		if d, _ := ctx.Deadline(); time.Until(d) > time.Minute { // as much as it needs
			return nil, nil
		}
		_, err := source.Exec(ctx, "SELECT pg_catalog.pg_sleep(60)")
		return nil, err
	}}
	w := watching(t, quick("before", 1), waits, quick("after", 5))
	w.standing("waits").patience = 20 * time.Millisecond
	require.Error(t, w.Poll(ctx, false))
	require.Equal(t, map[string]int{"before": 1, "waits": 1, "after": 1}, asked, "its session was lost, and the next one has another")
	why := w.Blocked(true)
	require.Len(t, why, 1)
	require.Contains(t, why[0].Detail, "waits: ")
	require.NotContains(t, why[0].Detail, "after")
	require.Error(t, w.Poll(ctx, false))
	require.Equal(t, map[string]int{"before": 2, "waits": 2, "after": 1}, asked, "who had no answer is asked in the next round")
	require.Equal(t, 80*time.Millisecond, w.standing("waits").patience)
	w.standing("waits").patience = time.Hour
	require.NoError(t, w.Poll(ctx, false))
	require.Empty(t, w.Blocked(true))
}

// A round that has no time for all watchers comes to the others in the next ones.
func TestARoundWithoutTimeForAllLeavesOutOthersEachTime(t *testing.T) {
	t.Parallel()
	var asked []string
	slow := func(name string) Watcher {
		return Watcher{Name: name, Ask: func(context.Context, *pgx.Conn, *pgx.Conn) ([]Notice, error) {
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
		asked = append(asked, x.Name)
	}
	require.Equal(t, []string{"c", "b", "a"}, asked)
}

// The pause after a scan of rows depends on what it took.
func TestAScanRestsByWhatItTook(t *testing.T) {
	t.Parallel()
	asked := 0
	scan := Watcher{Name: "scan", Rest: RestScan, Ask: func(ctx context.Context, source, _ *pgx.Conn) ([]Notice, error) {
		asked++
		_, err := source.Exec(ctx, "SELECT pg_catalog.pg_sleep(0.1)")
		return nil, err
	}}
	w := watching(t, scan)
	begin := time.Now()
	require.NoError(t, w.Poll(t.Context(), false))
	require.NoError(t, w.Poll(t.Context(), false))
	require.Equal(t, 1, asked)
	require.Greater(t, w.standing("scan").rests.Sub(begin), restAfterScan*100*time.Millisecond)
	require.NoError(t, w.Confirm(t.Context(), false))
	require.Equal(t, 2, asked, "a cutover asks all the same")
}

// The last good answer of a question that is answered no more does not count for ever, and counts
// for as long as a server needs to restart.
func TestAnAnswerThatIsTooOldIsNone(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	var fails error
	w := watching(t, Watcher{Name: "first", Ask: func(context.Context, *pgx.Conn, *pgx.Conn) ([]Notice, error) { return nil, fails }},
		Watcher{Name: "last", Ask: func(context.Context, *pgx.Conn, *pgx.Conn) ([]Notice, error) { return nil, nil }})
	require.NoError(t, w.Poll(ctx, false))
	old := func() { w.standing("first").answered = time.Now().Add(-2 * staleAge) }
	old()
	require.Empty(t, w.Blocked(true), "nobody has asked since: a cutover was under way")
	fails = &pgconn.PgError{Code: pg.CodeLockNotAvailable, Message: "lock timeout"}
	for range staleMisses - 1 {
		require.Error(t, w.Poll(ctx, false))
	}
	require.Empty(t, w.Blocked(true), "that may happen under load")
	require.Error(t, w.Poll(ctx, false))
	why := w.Blocked(true)
	require.Len(t, why, 1)
	require.Equal(t, "not_watched_yet", why[0].Code)
	require.Contains(t, why[0].Detail, "first: ")
	require.Contains(t, why[0].Detail, "lock timeout")
	require.Contains(t, why[0].Remedy, "by itself")
	w.standing("first").answered = time.Now()
	require.Empty(t, w.Blocked(true), "a moment ago it was answered")
	old()
	fails = nil
	require.NoError(t, w.Poll(ctx, false))
	require.Empty(t, w.Blocked(true))

	// Where there is no session, nobody is asked, the last one neither.
	away, err := pg.ParseDSN("host=" + t.TempDir() + " dbname=postgres user=postgres")
	require.NoError(t, err)
	w.source = dbconn.New(away)
	for range staleMisses {
		require.Error(t, w.Poll(ctx, false))
	}
	w.standing("last").answered = time.Now().Add(-2 * staleAge)
	require.Contains(t, w.Blocked(true)[0].Code, "not_watched_yet")
	for _, side := range []string{"source", "target"} { // which one it is, and in words that are no name of the program's
		if side == "target" {
			w.source, w.target = w.target, w.source
		}
		for range staleMisses {
			require.Error(t, w.Poll(ctx, false))
		}
		require.Contains(t, w.Blocked(true)[0].Detail, ": the "+side+" cannot be asked: ")
	}
}
