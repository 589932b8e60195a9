package logins

import (
	"bytes"
	"maps"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/neonlike/neontest"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestARefusalRestsTwiceAsLongEachTime(t *testing.T) {
	t.Parallel()
	r, now := refusals{}, time.Unix(0, 0)
	require.False(t, r.rests("make a", "x", now))
	for want := refusalRest; want < mostRefusalRest; want *= 2 {
		r.note("make a", "x", now)
		require.True(t, r.rests("make a", "x", now.Add(want-1)))
		require.False(t, r.rests("make a", "x", now.Add(want)))
		require.False(t, r.rests("make b", "x", now))
	}
	require.False(t, r.rests("make a", "y", now), "the role of --target may do more")
	for range 9 {
		r.note("make a", "x", now)
	}
	require.True(t, r.rests("make a", "x", now.Add(mostRefusalRest-1)))
	require.False(t, r.rests("make a", "x", now.Add(mostRefusalRest)))
}

// A role that the target does not let the run make, and an owner that it does not let it change,
// are tried once, told once, and tried again when the role of --target may.
func TestARoleThatCannotBeMadeIsNotTriedInEachRound(t *testing.T) {
	t.Parallel()
	l := newNeonLoginFixture(t)
	app := l.app(t, "app", "LOGIN PASSWORD 'pw'")
	admin := pgtest.Conn(t, neontest.Shared(t).AdminDSN("postgres"))
	mine := pg.QuoteIdent(l.target.User())
	pgtest.Exec(t, admin, "ALTER ROLE "+mine+" NOCREATEROLE")
	t.Cleanup(func() { pgtest.Exec(t, admin, "ALTER ROLE "+mine+" CREATEROLE") })
	var out bytes.Buffer
	u := l.users(t, "", zerolog.New(&out))
	ensure := func() string {
		out.Reset()
		require.NoError(t, u.Logins.Ensure(t.Context(), l.super, l.journal))
		return out.String()
	}
	require.Contains(t, ensure(), app)
	first := maps.Clone(u.Logins.denied)
	require.Equal(t, refusalRest, first["make "+app].rest)
	for range 3 {
		require.Empty(t, ensure(), "it is told once")
	}
	require.Equal(t, first, u.Logins.denied, "nothing is tried meanwhile, which would make it rest longer")
	pgtest.Exec(t, admin, "ALTER ROLE "+mine+" CREATEROLE")
	require.Contains(t, ensure(), "roles made")
	require.NoError(t, DropLogins(t.Context(), l.journal, func(string) {}))
}
