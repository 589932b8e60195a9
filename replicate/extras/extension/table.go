package extension

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/replicate/snapshot"
)

// Table is a configuration table of an extension, or a sequence so marked.
type Table struct {
	OID        uint32 // on the source
	Extension  string
	Name       pg.Name
	Sequence   bool
	Condition  string            // "" or "WHERE …"
	Columns    []string          // without generated ones; of tables
	References []uint32          // tables that it has foreign keys to
	values     map[string]string // column → SQL of what is read instead of it
}

const tablesQuery = `SELECT c.oid, e.extname::text, n.nspname::text, c.relname::text, c.relkind = 'S', f.condition,
	ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
		WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum),
	ARRAY(SELECT k.confrelid FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'f' AND k.confrelid <> c.oid)
	FROM pg_catalog.pg_extension e
	CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(e.extconfig), pg_catalog.unnest(e.extcondition)) AS f(relid, condition)
	JOIN pg_catalog.pg_class c ON c.oid = f.relid
	JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'S') ORDER BY e.extname, n.nspname, c.relname`

// Tables lists the configuration tables of a database, referenced ones first.
func Tables(ctx context.Context, conn *pgx.Conn) ([]Table, error) {
	tables, err := pg.Select(ctx, conn, func(t *Table) []any {
		return []any{&t.OID, &t.Extension, &t.Name.Schema, &t.Name.Name, &t.Sequence, &t.Condition, &t.Columns, &t.References}
	}, tablesQuery)
	return sorted(tables), pg.Wrap(err, "list configuration tables of extensions")
}

// sorted puts referenced tables first. Tables that refer to one another in a
// circle keep their order.
func sorted(tables []Table) []Table {
	var out []Table
	placed := map[uint32]bool{}
	for len(tables) > 0 {
		waiting := lists.SetOf(tables, func(t Table) uint32 { return t.OID })
		i := slices.IndexFunc(tables, func(t Table) bool {
			return !slices.ContainsFunc(t.References, func(oid uint32) bool { return waiting[oid] && !placed[oid] })
		})
		i = max(i, 0)
		out, placed[tables[i].OID] = append(out, tables[i]), true
		tables = slices.Delete(slices.Clone(tables), i, i+1)
	}
	return out
}

func (t Table) exists() string {
	return fmt.Sprintf("SELECT EXISTS (SELECT FROM ONLY %s %s)", t.Name, t.Condition)
}

func (t Table) out() string {
	read := lists.Map(t.Columns, func(c string) string { return cmp.Or(t.values[c], pg.QuoteIdent(c)) })
	return fmt.Sprintf("COPY (SELECT %s FROM ONLY %s %s) TO STDOUT", strings.Join(read, ", "), t.Name, t.Condition)
}

// cron is the extension whose rows name roles and databases.
const cron = "pg_cron"

// isJobs reports whether the table holds jobs, which SyncJobs carries over.
func (t Table) isJobs() bool { return t.Extension == cron && t.Name.Name == "job" }

// translated has the table's rows name the target's roles and database.
func (t Table) translated(roles map[string]string, database string) Table {
	if t.Extension != cron {
		return t
	}
	role := "username"
	for _, from := range slices.Sorted(maps.Keys(roles)) {
		role = "CASE username WHEN " + pg.QuoteLiteral(from) + " THEN " + pg.QuoteLiteral(roles[from]) + " ELSE " + role + " END"
	}
	t.values = map[string]string{"username": role,
		"database": "CASE database WHEN pg_catalog.current_database() THEN " + pg.QuoteLiteral(database) + " ELSE database END"}
	return t
}

// Config says what is copied, from where to where.
type Config struct {
	Source snapshot.Connect
	Target snapshot.Connect
	// Snapshot is what the rows are read under. It belongs to the caller. If nil,
	// they are read as they are.
	Snapshot *snapshot.Holder
	// Roles are the source's names of roles to the target's, for rows that name roles.
	Roles       map[string]string
	LockTimeout time.Duration // for locks on the source; zero means without a bound
	// Takes tells, by its number on the source, whether a table is copied; nil for all.
	Takes func(oid uint32) bool
}

// Copied is one table or sequence that had something of the user's.
type Copied struct {
	Table Table
	Rows  int64 // 0 for a sequence
}

// Copy copies what users keep in configuration tables. It may be repeated. A table
// that holds nothing of theirs is left alone, and need not be on the target.
func Copy(ctx context.Context, cfg Config) ([]Copied, error) {
	source, err := cfg.Source(ctx)
	if err != nil {
		return nil, err
	}
	defer snapshot.Close(source)
	if err := snapshot.BeginOn(ctx, source, cfg.Snapshot, cfg.LockTimeout); err != nil {
		return nil, err
	}
	tables, err := Tables(ctx, source)
	if cfg.Takes != nil {
		tables = slices.DeleteFunc(tables, func(t Table) bool { return !cfg.Takes(t.OID) })
	}
	if err != nil || len(tables) == 0 {
		return nil, err
	}
	target, err := cfg.Target(ctx)
	if err != nil {
		return nil, err
	}
	defer snapshot.Close(target)
	tx, err := target.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	todo, err := wanted(ctx, source, target, tables)
	if err != nil {
		return nil, err
	}
	for _, t := range slices.Backward(todo) {
		if t.Sequence {
			continue
		}
		if _, err := target.Exec(ctx, fmt.Sprintf("DELETE FROM ONLY %s %s", t.Name, t.Condition)); err != nil {
			return nil, t.failed("write", err)
		}
	}
	var database string
	if err := target.QueryRow(ctx, `SELECT pg_catalog.current_database()::text`).Scan(&database); err != nil {
		return nil, err
	}
	var done []Copied
	for _, t := range todo {
		rows, err := t.translated(cfg.Roles, database).copy(ctx, source, target)
		if err != nil {
			return nil, err
		}
		done = append(done, Copied{Table: t, Rows: rows})
	}
	return done, tx.Commit(ctx)
}

// wanted returns the sequences, and the tables with rows of the user's on one side.
func wanted(ctx context.Context, source, target *pgx.Conn, tables []Table) ([]Table, error) {
	var todo []Table
	for _, t := range tables {
		if t.isJobs() {
			continue
		}
		var here, there, known bool
		err := target.QueryRow(ctx, `SELECT pg_catalog.to_regclass($1) IS NOT NULL`, t.Name.String()).Scan(&known)
		if err == nil && !t.Sequence {
			err = source.QueryRow(ctx, t.exists()).Scan(&here)
		}
		if err == nil && !t.Sequence && known {
			err = target.QueryRow(ctx, t.exists()).Scan(&there)
		}
		switch {
		case err != nil:
			return nil, t.failed("read", err)
		case here && !known:
			return nil, fmt.Errorf("copy rows of extension %s: the target has no table %s: bring the extension to the same version on both sides", t.Extension, t.Name.Display())
		case here || there || t.Sequence && known:
			todo = append(todo, t)
		}
	}
	return todo, nil
}

// copy brings one table's rows over, or sets a sequence.
func (t Table) copy(ctx context.Context, source, target *pgx.Conn) (int64, error) {
	if t.Sequence {
		var last int64
		var called bool
		err := source.QueryRow(ctx, fmt.Sprintf("SELECT last_value, is_called FROM %s", t.Name)).Scan(&last, &called)
		if err == nil {
			_, err = target.Exec(ctx, `SELECT pg_catalog.setval($1::regclass, $2, $3)`, t.Name.String(), last, called)
		}
		return 0, t.failed("set", err)
	}
	r, w := io.Pipe()
	read := make(chan error, 1)
	go func() {
		_, err := source.PgConn().CopyTo(ctx, w, t.out())
		_ = w.CloseWithError(err)
		read <- err
	}()
	tag, err := target.PgConn().CopyFrom(ctx, r, fmt.Sprintf("COPY %s (%s) FROM STDIN", t.Name, pg.QuoteIdents(t.Columns)))
	_ = r.CloseWithError(io.ErrClosedPipe)
	if sourceErr := <-read; sourceErr != nil && err == nil {
		err = sourceErr
	}
	return tag.RowsAffected(), t.failed("copy", err)
}

func (t Table) failed(verb string, err error) error {
	if pg.IsCode(err, pg.CodeInsufficientPrivilege) {
		return fmt.Errorf("%s configuration of extension %s in %s: %w: GRANT the role of the connection SELECT on the source, and SELECT, INSERT and DELETE on the target", verb, t.Extension, t.Name.Display(), err)
	}
	return pg.Wrap(err, "%s configuration of extension %s in %s", verb, t.Extension, t.Name.Display())
}

// Digest sums up what users keep in configuration tables, as Copy would copy it: two digests of a
// database are equal where these rows are, in whatever order. Left out are jobs of pg_cron, which
// SyncJobs carries over, the history of their runs, a log that grows with each, and sequences,
// which come with the rows that took numbers from them.
func Digest(ctx context.Context, conn *pgx.Conn) (string, error) {
	tables, err := Tables(ctx, conn)
	if err != nil {
		return "", err
	}
	all := sha256.New()
	for _, t := range tables {
		if t.Sequence || t.Extension == cron {
			continue
		}
		rows := &rowSums{line: sha256.New()}
		if _, err := conn.PgConn().CopyTo(ctx, rows, t.out()); err != nil {
			return "", t.failed("read", err)
		}
		if rows.n > 0 {
			fmt.Fprintf(all, "%s %d %x\n", t.Name, rows.n, rows.sum)
		}
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

// rowSums adds up the hashes of lines, so that their order does not count.
type rowSums struct {
	line hash.Hash
	sum  [sha256.Size]byte
	n    int64
}

// Write takes the text of a COPY.
func (r *rowSums) Write(b []byte) (int, error) {
	n := len(b)
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			r.line.Write(b)
			return n, nil
		}
		r.line.Write(b[:i])
		var carry uint
		one := r.line.Sum(nil)
		for k := range slices.Backward(one) {
			carry += uint(r.sum[k]) + uint(one[k])
			r.sum[k] = byte(carry)
			carry >>= 8
		}
		r.line.Reset()
		r.n++
		b = b[i+1:]
	}
}
