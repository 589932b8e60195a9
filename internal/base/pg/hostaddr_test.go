package pg_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// TestHostaddr: the address says where to connect, the name what the server is called.
func TestHostaddr(t *testing.T) {
	t.Parallel()
	d := mustDSN(t, "postgresql://bob@db.example:5433/shop?hostaddr=192.0.2.7&sslmode=verify-full")
	require.Equal(t, "192.0.2.7:5433", d.Address())
	require.Equal(t, "db.example", d.Host())
	require.Equal(t, "bob@db.example:5433/shop", d.Redacted())
	require.Equal(t, "db.example", d.Config().TLSConfig.ServerName)
	require.NotContains(t, d.Config().RuntimeParams, "hostaddr", "no server knows it")
	for _, c := range []pg.DSN{d, d.WithDatabase("x"), d.WithUser("eve", "p")} {
		require.Equal(t, "192.0.2.7:5433", c.Address())
		addrs, err := c.Config().LookupFunc(context.Background(), "db.example")
		require.NoError(t, err)
		require.Equal(t, []string{"192.0.2.7"}, addrs)
		info, _ := c.LibpqEnv()
		require.Contains(t, info, "hostaddr='192.0.2.7'", "children find it too")
	}

	d = mustDSN(t, "host=a.example,b.example hostaddr=::1,192.0.2.8 port=1,2 user=bob dbname=shop sslmode=prefer")
	require.Equal(t, "[::1]:1", d.Address())
	addrs, err := d.Config().LookupFunc(context.Background(), "b.example")
	require.NoError(t, err)
	require.Equal(t, []string{"192.0.2.8"}, addrs)

	d = mustDSN(t, "hostaddr=192.0.2.9 user=bob dbname=shop sslmode=require")
	require.Equal(t, "192.0.2.9", d.Host(), "without a name the address is the name")
	require.NotNil(t, d.Config().TLSConfig)

	for given, want := range map[string]string{
		"host=a,b hostaddr=192.0.2.1 user=u dbname=d":            "could not match 2 host names to 1 hostaddr values",
		"host=a hostaddr=not.numeric user=u dbname=d password=x": "hostaddr is no numeric address",
	} {
		_, err := pg.ParseDSN(given)
		require.ErrorContains(t, err, want)
	}
}

func TestHostaddrIsWhereWeConnect(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	info, _ := dsn.LibpqEnv()
	d := mustDSN(t, info+" password='"+dsn.Password()+"' host=no-such-host.invalid hostaddr=127.0.0.1")
	conn := pgtest.Conn(t, d)
	require.Equal(t, dsn.Database(), pgtest.Value(t, conn, "SELECT current_database()"))
}
