package catalog

import (
	"crypto/rand"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// objects makes a database from ../pairtest/objects.sql and reads it.
func objects(t *testing.T) (*Database, *pgx.Conn) {
	t.Helper()
	cluster := pgtest.Shared(t, pgtest.Source)
	reader := "reader_" + strings.ToLower(rand.Text()[:8])
	admin := pgtest.Conn(t, cluster.AdminDSN("postgres"))
	pgtest.Exec(t, admin, "CREATE ROLE "+reader)
	t.Cleanup(func() { pgtest.Exec(t, pgtest.Conn(t, cluster.AdminDSN("postgres")), "DROP ROLE "+reader) })
	sql, err := os.ReadFile("../pairtest/objects.sql")
	require.NoError(t, err)
	conn := pgtest.Conn(t, pgtest.Database(t, cluster))
	_, err = conn.PgConn().Exec(t.Context(), strings.ReplaceAll(string(sql), "READER", reader)).ReadAll()
	require.NoError(t, err)
	pgtest.Exec(t, conn, journal.SourceDDL+`CREATE TRIGGER zz_crossfade_fence BEFORE INSERT ON app.audit FOR EACH STATEMENT EXECUTE FUNCTION crossfade.fence();
		CREATE PUBLICATION crossfade; CREATE PUBLICATION theirs; CREATE TEMP TABLE passing (id integer); SELECT lo_create(0)`)
	db, err := Read(t.Context(), conn)
	require.NoError(t, err)
	return db, conn
}

func table(t *testing.T, db *Database, name string) *Relation {
	t.Helper()
	r := db.Lookup(pg.Name{Schema: "app", Name: name})
	require.NotNil(t, r, name)
	require.Same(t, r, db.Relation(r.OID))
	return r
}

func TestReadRelations(t *testing.T) {
	t.Parallel()
	db, _ := objects(t)
	require.GreaterOrEqual(t, db.Version, 120000)
	require.Equal(t, "UTF8", db.Encoding)
	require.Equal(t, []string{`Odd "name"; -- x`, "app", "public"}, db.Schemas)
	require.Equal(t, []string{"theirs"}, db.Publications)
	require.EqualValues(t, 1, db.LargeObjects)

	var names []string
	for _, r := range db.Relations {
		names = append(names, r.Rel)
	}
	require.Equal(t, []string{"T;1", "Order", "audit", "base", "customer", "derived", "detail", "event", "event 2025 eu", "event_2024", "event_2025",
		"event_rest", "loose", "scratch"}, names)

	c := table(t, db, "customer")
	require.Equal(t, []string{"id"}, c.PrimaryKey)
	require.Equal(t, []string{"id"}, c.Identity)
	require.Equal(t, byte(IdentityDefault), c.ReplicaIdentity)
	require.Equal(t, "heap", c.Storage.AccessMethod)
	require.NotZero(t, c.Storage.FileNode)
	require.Positive(t, c.Pages)
	require.Len(t, c.Columns, 11, "without the dropped one")
	require.Equal(t, []string{"id", "second", "mail", "name", "feeling", "tags", "two", "price", "changed", "seen"}, c.CopyColumns())
	require.Equal(t, byte(IdentityAlways), c.Column("id").Identity)
	require.Equal(t, byte(IdentityByDefault), c.Column("second").Identity)
	require.Equal(t, byte(GeneratedStored), c.Column("gross").Generated)
	require.Equal(t, "numeric(10,2)", c.Column("price").Type)
	require.Equal(t, "app.mood", c.Column("feeling").Type)
	require.Equal(t, pg.Name{Schema: "app", Name: "email"}, c.Column("mail").TypeName)
	require.True(t, c.Column("name").NotNull && c.Column("name").Default)
	require.Nil(t, c.Column("gone"))
	require.Len(t, c.Unique, 2)
	require.True(t, c.Unique[0].Primary)
	require.True(t, c.Unique[1].Partial)
	require.Nil(t, c.Unique[1].Columns, "an expression")

	order := table(t, db, "Order")
	require.Equal(t, byte(IdentityFull), order.ReplicaIdentity)
	require.Equal(t, order.CopyColumns(), order.Identity)
	loose := table(t, db, "loose")
	require.Equal(t, []string{"code"}, loose.Identity)
	require.True(t, loose.RowSecurity.Enabled && loose.RowSecurity.Forced)
	require.Nil(t, table(t, db, "audit").Identity)
	require.Equal(t, byte(Unlogged), table(t, db, "scratch").Persistence)
	require.Equal(t, []uint32{table(t, db, "base").OID}, table(t, db, "derived").Inherits)
	require.True(t, table(t, db, "base").Children)
}

func TestReadPartitionsAndForeignKeys(t *testing.T) {
	t.Parallel()
	db, _ := objects(t)
	event := table(t, db, "event")
	require.Equal(t, byte(KindPartitioned), event.Kind)
	require.Zero(t, event.Storage.FileNode)
	var leaves []string
	for _, l := range db.Leaves(event) {
		leaves = append(leaves, l.Rel)
	}
	require.Equal(t, []string{"event_2024", "event 2025 eu", "event_rest"}, leaves)
	require.Equal(t, table(t, db, "event_2025").OID, table(t, db, "event 2025 eu").Parent)

	inherited := map[string]bool{}
	byName := map[string]ForeignKey{}
	for _, k := range db.ForeignKeys {
		if k.Inherited != 0 {
			inherited[db.Relation(k.Table).Rel] = true
			continue
		}
		require.NotContains(t, byName, k.Name)
		byName[k.Name] = k
	}
	require.Len(t, byName, 5, "the parts of a key that references a partitioned table are not listed")
	require.Equal(t, map[string]bool{"event_2024": true, "event_2025": true, "event 2025 eu": true, "event_rest": true}, inherited)
	k := byName["Order; customer"]
	require.True(t, k.Deferrable && k.Deferred && k.Validated)
	require.Equal(t, table(t, db, "customer").OID, k.Referenced)
	require.Equal(t, []string{"customer"}, k.Columns)
	require.Equal(t, []string{"id"}, k.RefColumns)
	require.False(t, byName["loose_order"].Validated)
	require.Equal(t, []string{"event", "at", "region"}, byName["detail_event_at_region_fkey"].Columns)
}

func TestReadOtherObjects(t *testing.T) {
	t.Parallel()
	db, conn := objects(t)
	triggers := map[string]Trigger{}
	for _, g := range db.Triggers {
		if !g.Inherited {
			triggers[g.Name] = g
		}
	}
	require.Len(t, triggers, 6)
	require.Equal(t, byte('D'), triggers["Off"].Enabled)
	require.Equal(t, byte('A'), triggers["always"].Enabled)
	require.True(t, triggers["later"].Constraint)
	require.Len(t, db.Rules, 2)
	require.Equal(t, byte('D'), db.Rules[1].Enabled)

	var views []string
	for _, m := range db.MatViews {
		views = append(views, m.Rel)
	}
	require.Equal(t, []string{"z_first", "a_second", "never"}, views, "each after what it reads")
	require.False(t, db.MatViews[2].Populated)

	sequences := map[string]Sequence{}
	for _, s := range db.Sequences {
		sequences[s.Rel] = s
	}
	require.Len(t, sequences, 4)
	require.True(t, sequences["customer_id_seq"].Identity)
	require.Equal(t, "id", sequences["Order_id_seq"].OwnerColumn)
	require.False(t, sequences["Order_id_seq"].Identity)
	odd := sequences["odd_seq"]
	require.Equal(t, "smallint", odd.Type)
	require.True(t, odd.Cycle && odd.Start == 5 && odd.Increment == 5 && odd.Min == 5 && odd.Max == 500 && odd.Cache == 3)
	require.Equal(t, "public", pgtest.Value(t, conn, `SELECT current_setting('search_path')`))
}

func TestReadExtensionsConfiguration(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Shared(t, pgtest.Source)
	dsn := pgtest.Database(t, cluster)
	admin := pgtest.Conn(t, cluster.AdminDSN(dsn.Database()))
	// An extension of the test's own would need files on the server; plpgsql takes the members just
	// as well.
	pgtest.Exec(t, admin, `CREATE TABLE public.member (id integer PRIMARY KEY); CREATE TABLE public.config (id integer PRIMARY KEY, own boolean);
		ALTER EXTENSION plpgsql ADD TABLE public.member; ALTER EXTENSION plpgsql ADD TABLE public.config;
		UPDATE pg_extension SET extconfig = ARRAY['public.config'::regclass::oid], extcondition = ARRAY['WHERE own'] WHERE extname = 'plpgsql'`)
	db, err := Read(t.Context(), admin)
	require.NoError(t, err)
	require.Empty(t, db.Relations)
	require.Len(t, db.Config, 1)
	require.Equal(t, "plpgsql WHERE own", db.Config[0].Configuration.Extension+" "+db.Config[0].Configuration.Condition)
	require.Len(t, db.Config[0].Columns, 2)
	require.Equal(t, []string{"id"}, db.Config[0].PrimaryKey)
	require.Len(t, db.Extensions, 1)
	config := 0
	for _, m := range db.Extensions[0].Members {
		if m.Config {
			config++
			require.Equal(t, pg.Name{Schema: "public", Name: "config"}, m.Name)
		}
	}
	require.Equal(t, 1, config)
}

func TestReadUnderTheCallersSnapshot(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	conn := pgtest.Conn(t, dsn)
	pgtest.Exec(t, conn, `BEGIN ISOLATION LEVEL REPEATABLE READ`)
	pgtest.Value(t, conn, `SELECT 1`)
	pgtest.Exec(t, pgtest.Conn(t, dsn), `CREATE TABLE public.later ()`)
	db, err := Read(t.Context(), conn)
	require.NoError(t, err)
	require.Empty(t, db.Relations)
	require.Equal(t, "public", pgtest.Value(t, conn, `SELECT current_setting('search_path')`))
	pgtest.Exec(t, conn, `COMMIT`)
	db, err = Read(t.Context(), conn)
	require.NoError(t, err)
	require.Len(t, db.Relations, 1)
}
