package daemon

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/migration"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/copy"
)

// The server says which byte, and in a copy not which row: that was written after the checks.
func TestACopyThatStopsAtBytesNamesTheRow(t *testing.T) {
	t.Parallel()
	c := pgtest.Shared(t, pgtest.Source)
	d := pgtest.Database(t, c)
	pgtest.DatabaseAs(t, c, d.Database(), d.User(), "ENCODING 'SQL_ASCII' LOCALE 'C'")
	conn := pgtest.Conn(t, d)
	pgtest.Exec(t, conn, `CREATE TABLE public.word (id int PRIMARY KEY, w text); INSERT INTO public.word VALUES (1, 'a'), (2, convert_from('\xe9', 'SQL_ASCII'))`)
	_, said := conn.PgConn().Exec(t.Context(), `COPY public.word TO STDOUT`).ReadAll()
	require.True(t, pg.IsCode(said, pg.CodeInvalidBytes), "%v", said)

	m := migration.New(migration.Config{Source: d})
	table := pg.Name{Schema: "public", Name: "word"}
	err := m.Explained(m.NamingRow(t.Context(), &copy.TableError{Table: table, Err: fmt.Errorf("%w: %w", copy.ErrRead, said)}), migration.GoOnCopy)
	require.ErrorContains(t, err, "the row with key (2), column w, and 1 rows of the table are so")
	require.ErrorContains(t, err, `UPDATE "public"."word" SET "w" = `)
	require.ErrorContains(t, err, migration.GoOnCopy)
	other := &copy.TableError{Table: table, Err: fmt.Errorf("%w: %w", copy.ErrRead, &pgconn.PgError{Code: pg.CodeDiskFull})}
	require.Same(t, other, m.NamingRow(t.Context(), other))
}
