package daemon

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/control"
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
