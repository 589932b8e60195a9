package slot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
)

const (
	// DefaultLockTimeout is the longest time that a lock of ours is waited for;
	// it is below the server's deadlock_timeout, so that no deadlock check of
	// ours ever ends a statement of the application or an autovacuum.
	DefaultLockTimeout = 200 * time.Millisecond
	// DefaultPatience bounds how long tables that are locked by others are
	// asked for again: longer than the usual ALTER TABLE or vacuum of a table,
	// short enough that an operator is still there to read the answer.
	DefaultPatience = 2 * time.Minute
)

// PublicationConfig says what EnsurePublication makes.
type PublicationConfig struct {
	Name        string        // of the publication
	Tables      []pg.Name     // plain tables and leaf partitions
	LockTimeout time.Duration // DefaultLockTimeout if 0
	Patience    time.Duration // DefaultPatience if 0
	// Silent makes the publication so that it publishes no kind of change yet (Speak). One that is
	// there stays as it is.
	Silent bool
}

// Validate fills defaults in and refuses what contradicts itself.
func (c *PublicationConfig) Validate() error {
	c.LockTimeout = cmp.Or(c.LockTimeout, DefaultLockTimeout)
	c.Patience = cmp.Or(c.Patience, DefaultPatience)
	switch {
	case c.Name == "":
		return errors.New("publication: no name given")
	case c.LockTimeout < time.Millisecond || c.Patience < 0:
		return errors.New("publication: lock timeout below 1ms or negative patience")
	}
	return nil
}

// EnsurePublication makes the publication, or brings an existing one to exactly the wanted list of
// tables. Tables are added one by one when adding them together meets a lock, so that one busy
// table does not hold up the rest; each statement is a transaction of its own. conn must be idle,
// and cfg's role must own the tables and have CREATE on the database.
func EnsurePublication(ctx context.Context, conn *pgx.Conn, cfg PublicationConfig) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	if err := preparePublication(ctx, conn, cfg); err != nil {
		return fmt.Errorf("make publication %s: %w", cfg.Name, err)
	}
	last := map[pg.Name]error{}
	policy := retry.Policy{Initial: 100 * time.Millisecond, Max: 2 * time.Second, MaxElapsed: cfg.Patience}
	err := retry.Do(ctx, policy, func(ctx context.Context) error {
		clear(last)
		return fillPublication(ctx, conn, cfg, last)
	})
	if len(last) > 0 {
		err = errors.Join(err, describeLocked(ctx, conn, last))
	}
	return pg.Wrap(err, "fill publication %s", cfg.Name)
}

// preparePublication leaves an existing publication of the right kind, or makes an empty one.
func preparePublication(ctx context.Context, conn *pgx.Conn, cfg PublicationConfig) error {
	viaRoot := "false"
	if pg.ServerVersion(conn) >= 130000 {
		viaRoot = "pubviaroot"
	}
	truncate := "true"
	if pg.ServerVersion(conn) >= 110000 {
		truncate = "pubtruncate"
	}
	var all, rootwise, complete bool
	err := conn.QueryRow(ctx, `SELECT puballtables, `+viaRoot+`, pubinsert AND pubupdate AND pubdelete AND `+truncate+`
		FROM pg_catalog.pg_publication WHERE pubname = $1`, cfg.Name).Scan(&all, &rootwise, &complete)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		name := pg.QuoteIdent(cfg.Name)
		options := publicationOptions(conn)
		if cfg.Silent {
			options = " WITH (publish = '')"
		}
		_, err = conn.PgConn().Exec(ctx, "CREATE PUBLICATION "+name+options+
			"; COMMENT ON PUBLICATION "+name+" IS 'A migration by Crossfade reads the changes of these tables. \"crossfade finish\" or \"crossfade clean\" removes it.'").ReadAll()
		return err
	case err != nil:
		return err
	case all || rootwise || !complete && !cfg.Silent:
		return errors.New("a publication of that name exists and is not ours (all tables, via partition root, or not all kinds of changes): drop or rename it")
	}
	return nil
}

// Speak and Silence are the statements by which a publication publishes every kind of change from
// the transaction's commit on, and none. Decoding sees either as of where it is in the log. They need
// PostgreSQL 13.
func Speak(publication string) string {
	return "ALTER PUBLICATION " + pg.QuoteIdent(publication) + " SET (publish = 'insert, update, delete, truncate');"
}

// Silence is the opposite of Speak.
func Silence(publication string) string {
	return "ALTER PUBLICATION " + pg.QuoteIdent(publication) + " SET (publish = '');"
}

func publicationOptions(conn *pgx.Conn) string {
	switch v := pg.ServerVersion(conn); {
	case v >= 130000:
		return " WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = false)"
	case v >= 110000:
		return " WITH (publish = 'insert, update, delete, truncate')"
	default:
		return " WITH (publish = 'insert, update, delete')"
	}
}

// PublishedTables returns the tables that the publication names; none if there
// is no such publication.
func PublishedTables(ctx context.Context, conn *pgx.Conn, publication string) ([]pg.Name, error) {
	tables, err := pg.Rows(ctx, conn, pgx.RowToStructByPos[pg.Name], `SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_publication p
		JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
		JOIN pg_catalog.pg_class c ON c.oid = r.prrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE p.pubname = $1 ORDER BY 1, 2`, publication)
	return tables, pg.Wrap(err, "read publication %s", publication)
}

func fillPublication(ctx context.Context, conn *pgx.Conn, cfg PublicationConfig, locked map[pg.Name]error) error {
	have, err := PublishedTables(ctx, conn, cfg.Name)
	if err != nil {
		return retry.Permanent(err)
	}
	for _, change := range []struct {
		verb   string
		tables []pg.Name
	}{{"ADD", without(cfg.Tables, have)}, {"DROP", without(have, cfg.Tables)}} {
		if err := alterPublication(ctx, conn, cfg, change.verb, change.tables, locked); err != nil {
			return retry.Permanent(err)
		}
	}
	if len(locked) > 0 {
		return fmt.Errorf("%d tables are locked by other sessions", len(locked))
	}
	return nil
}

func alterPublication(ctx context.Context, conn *pgx.Conn, cfg PublicationConfig, verb string, tables []pg.Name, locked map[pg.Name]error) error {
	if len(tables) == 0 {
		return nil
	}
	sql := fmt.Sprintf("BEGIN; SET LOCAL lock_timeout = %d; ALTER PUBLICATION %s %s TABLE ONLY %s; COMMIT",
		cfg.LockTimeout.Milliseconds(), pg.QuoteIdent(cfg.Name), verb, strings.Join(lists.Map(tables, pg.Name.String), ", ONLY "))
	_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	if err == nil {
		return nil
	}
	if !conn.IsClosed() {
		if _, rerr := conn.Exec(ctx, "ROLLBACK"); rerr != nil {
			return errors.Join(err, rerr)
		}
	}
	if !pg.IsCode(err, pg.CodeLockNotAvailable) {
		return err
	}
	if len(tables) == 1 {
		locked[tables[0]] = err
		return nil
	}
	for _, t := range tables {
		if err := alterPublication(ctx, conn, cfg, verb, []pg.Name{t}, locked); err != nil {
			return err
		}
	}
	return nil
}

// DropPublication drops the publication; it is no error if there is none.
func DropPublication(ctx context.Context, conn *pgx.Conn, name string) error {
	_, err := conn.Exec(ctx, "DROP PUBLICATION IF EXISTS "+pg.QuoteIdent(name))
	return pg.Wrap(err, "drop publication %s", name)
}

func without(all, but []pg.Name) []pg.Name {
	return lists.AddNew(nil, lists.Filter(all, func(t pg.Name) bool { return !slices.Contains(but, t) })...)
}

// Membership is how the publication has one table.
type Membership struct {
	OID     uint32 // of the table
	Table   pg.Name
	Columns []string // that are published, in the order of the table
	// Row is the catalog's row of it and that row's version: a table that was taken out
	// and put back has another one.
	Row string
}

// Inventory is a publication at one moment.
type Inventory struct {
	// Row is the catalog's row of the publication and that row's version, which every
	// ALTER of the publication itself changes; "" where there is no publication.
	Row    string
	Tables []Membership
}

// TakeInventory reads what the publication is, as conn's snapshot sees it. With
// columns it reads those of each table too.
func TakeInventory(ctx context.Context, conn *pgx.Conn, publication string, columns bool) (Inventory, error) {
	var inv Inventory
	// VACUUM keeps a row's xmin where it freezes the row.
	err := conn.QueryRow(ctx, `SELECT oid::text || '/' || xmin::text FROM pg_catalog.pg_publication WHERE pubname = $1`, publication).Scan(&inv.Row)
	if errors.Is(err, pgx.ErrNoRows) {
		return Inventory{}, nil
	}
	if err != nil {
		return Inventory{}, fmt.Errorf("read publication %s: %w", publication, err)
	}
	list := "NULL::text[]"
	if columns { // sources before 12 have no generated columns
		list = `ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
			AND coalesce(pg_catalog.to_jsonb(a) OPERATOR(pg_catalog.->>) 'attgenerated', '') = '' ORDER BY a.attnum)`
	}
	inv.Tables, err = pg.Select(ctx, conn, func(m *Membership) []any {
		return []any{&m.OID, &m.Table.Schema, &m.Table.Name, &m.Columns, &m.Row}
	}, `SELECT c.oid, n.nspname::text, c.relname::text, `+list+`, r.oid::text || '/' || r.xmin::text
		FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
		JOIN pg_catalog.pg_class c ON c.oid = r.prrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE p.pubname = $1 ORDER BY 2, 3`, publication)
	return inv, pg.Wrap(err, "read publication %s", publication)
}

// Harm is a table whose UPDATEs and DELETEs fail on the source because a publication has it.
type Harm struct {
	OID    uint32
	Table  pg.Name
	Reason string // completes "table t …"
}

// HarmPartial is the reason of a table that has its replica identity, and would be followed if
// someone had not changed its entry in the publication.
const HarmPartial = "was given a row filter or a list of columns in the publication"

// Harmed lists the tables of the publication that applications cannot update any
// more: those without a replica identity, and those whose entry has a row filter or
// a list of columns, which ours never have.
func Harmed(ctx context.Context, conn *pgx.Conn, publication string) ([]Harm, error) {
	partial := "false"
	if pg.ServerVersion(conn) >= 150000 {
		partial = "r.prqual IS NOT NULL OR r.prattrs IS NOT NULL"
	}
	harmed, err := pg.Select(ctx, conn, func(h *Harm) []any {
		return []any{&h.OID, &h.Table.Schema, &h.Table.Name, &h.Reason}
	}, `SELECT oid, nspname, relname, reason FROM (
			SELECT c.oid, n.nspname::text, c.relname::text, CASE
				WHEN c.relreplident = 'n' THEN 'has REPLICA IDENTITY NOTHING'
				WHEN c.relreplident = 'd' AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i
					WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid AND i.indimmediate) THEN 'has no primary key any more, or a deferrable one'
				WHEN c.relreplident = 'i' AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i
					WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid AND i.indisunique AND i.indimmediate) THEN 'has lost the index that was its replica identity'
				WHEN `+partial+` THEN '`+HarmPartial+`' END AS reason
			FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
			JOIN pg_catalog.pg_class c ON c.oid = r.prrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			WHERE p.pubname = $1) t
		WHERE reason IS NOT NULL ORDER BY 2, 3`, publication)
	return harmed, pg.Wrap(err, "look for tables without replica identity")
}

// TakeOut takes a table out of the publication. It waits for the table's lock no longer
// than lockTimeout; writers of the table hold no lock that it waits for.
func TakeOut(ctx context.Context, conn *pgx.Conn, publication string, table pg.Name, lockTimeout time.Duration) error {
	locked := map[pg.Name]error{}
	err := alterPublication(ctx, conn, PublicationConfig{Name: publication, LockTimeout: lockTimeout}, "DROP", []pg.Name{table}, locked)
	if err == nil {
		err = locked[table]
	}
	if err != nil && !pg.IsCode(err, pg.CodeUndefinedObject, pg.CodeUndefinedTable) { // someone else did
		return fmt.Errorf("take table %s out of publication %s: %w", table.Display(), publication, err)
	}
	return nil
}
