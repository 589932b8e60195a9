package pg_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
)

// TestWhatNeonSays: a login that Neon's proxy refused is worth another try or not by its words,
// and is told with a remedy.
func TestWhatNeonSays(t *testing.T) {
	t.Parallel()
	d := mustDSN(t, "host=ep-a.local.neon.test user=u dbname=d")
	for message, x := range map[string]struct {
		lost   bool
		remedy string
	}{
		"Couldn't connect to compute node":                                                                   {true, "the compute is starting or moving: try again"},
		"the database system is not accepting connections":                                                   {true, "try again"},
		"the database system is starting up":                                                                 {true, "try again"},
		"Too many connections to this endpoint.":                                                             {true, "wait a minute"},
		"sorry, too many clients already":                                                                    {true, "free connections"},
		"password authentication failed for user 'u'":                                                        {false, "check the password"},
		`database "nowhere" does not exist`:                                                                  {false, "create the database"},
		`role "u" is not permitted to log in`:                                                                {false, "name a role with LOGIN"},
		"connection is insecure (try using `sslmode=require`)":                                               {false, "Neon serves TLS only"},
		"Endpoint ID is not specified. Either please upgrade":                                                {false, "hostaddr"},
		"Your account or project has exceeded the compute time quota. Upgrade your plan to increase limits.": {false, "plan"},
		"cache lookup failed for type 17":                                                                    {false, "SQLSTATE XX000"},
	} {
		err := pg.ConnectError(d, &pgconn.PgError{Severity: "ERROR", Code: "XX000", Message: message})
		require.Equal(t, x.lost, pg.ConnectionLost(err), message)
		require.ErrorContains(t, err, x.remedy, message)
		require.NotContains(t, err.Error(), "\n")
	}
}

func TestComputeMeant(t *testing.T) {
	t.Parallel()
	require.Equal(t, pg.CodeTooManyConnections, pg.ComputeMeant(`too many connections for role "app"`))
	require.Equal(t, pg.CodeInsufficientPrivilege, pg.ComputeMeant(`permission denied for database "d"`))
	require.Empty(t, pg.ComputeMeant("Couldn't connect to compute node"))
}
