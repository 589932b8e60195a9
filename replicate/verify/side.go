package verify

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/snapshot"
)

// side is one of the two databases.
type side struct {
	name    string // "source" or "target", in the sense of from and to
	holder  *snapshot.Holder
	connect snapshot.Connect
	yielder *snapshot.Yielder
	lock    time.Duration
	path    string // search_path of what reads rows, "" for pg_catalog alone
	bytes   bool   // floats by their bytes: one of the servers is old
	ranges  bool
	since   *pg.Snapshot // of the target: what it saw when the sides were equal, nil for what the holder sees
	later   bool         // what was written after since, instead of what was not
	rest    float64      // how many times the duration of a read a session rests after it
}

// open opens a reading session.
func (s *side) open(ctx context.Context) (*pgx.Conn, error) {
	conn, err := snapshot.Session(ctx, s.connect)
	if err != nil {
		return nil, err
	}
	sql := pg.TextSQL() + "; SET row_security = off"
	if s.path != "" {
		sql += "; SET search_path = " + s.path
	}
	if err := pg.Exec(ctx, conn, sql); err != nil {
		snapshot.Close(conn)
		return nil, fmt.Errorf("prepare session at the %s: %w", s.name, err)
	}
	return conn, nil
}

// relation is what a snapshot saw of a table.
type relation struct {
	name          pg.Name
	oid, filenode uint32
	bytes, blocks int64
	heap          bool
	floats        map[string]string // column → "float4" or "float8"
}

// readRelations reads what the snapshot sees of the tables. Their sizes are the present ones or, if
// the application has a table locked, those of the last VACUUM.
func (s *side) readRelations(ctx context.Context, conn *pgx.Conn, tables []Table) (map[pg.Name]relation, error) {
	found, err := s.readRelationsBy(ctx, conn, tables, "pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::bigint")
	if pg.IsCode(err, pg.CodeLockNotAvailable) {
		found, err = s.readRelationsBy(ctx, conn, tables, "greatest(c.relpages, 0)")
	}
	return found, pg.Wrap(err, "look at the tables of the %s", s.name)
}

func (s *side) readRelationsBy(ctx context.Context, conn *pgx.Conn, tables []Table, blocks string) (map[pg.Name]relation, error) {
	var nsps, rels []string
	for _, t := range tables {
		for _, name := range t.files() {
			nsps, rels = append(nsps, name.Schema), append(rels, name.Name)
		}
	}
	found := map[pg.Name]relation{}
	return found, s.holder.Read(ctx, conn, s.lock, func() error {
		rows, _ := conn.Query(ctx, `SELECT n.nspname::text, c.relname::text, c.oid, c.relfilenode,
			coalesce(`+blocks+`, 0)::bigint, pg_catalog.current_setting('block_size')::bigint,
			coalesce((SELECT a.amname = 'heap' FROM pg_catalog.pg_am a WHERE a.oid = c.relam), true),
			coalesce((SELECT pg_catalog.array_agg(a.attname::text || ' ' || CASE a.atttypid WHEN 700 THEN 'float4' ELSE 'float8' END)
				FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.atttypid IN (700, 701)), '{}')
		FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) w(nsp, rel)
		JOIN pg_catalog.pg_namespace n ON n.nspname = w.nsp
		JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.rel`, nsps, rels)
		var name pg.Name
		var r relation
		var block int64
		var floats []string
		_, err := pgx.ForEachRow(rows, []any{&name.Schema, &name.Name, &r.oid, &r.filenode, &r.blocks, &block, &r.heap, &floats}, func() error {
			r.name, r.bytes, r.floats = name, r.blocks*block, map[string]string{}
			for _, f := range floats {
				cut := strings.LastIndex(f, " ")
				r.floats[f[:cut]] = f[cut+1:]
			}
			found[name] = r
			return nil
		})
		return err
	})
}

// row returns the SQL for a row's text, and for a key's. No user can define a cast of a row that
// has no named type: this cast is the row's output function, and those of the columns' types.
func (s *side) row(columns []string, r relation) string {
	parts := make([]string, len(columns))
	for i, c := range columns {
		parts[i] = pg.QuoteIdent(c)
		if f := r.floats[c]; f != "" && s.bytes {
			parts[i] = "pg_catalog." + f + "send(" + parts[i] + ")"
		}
	}
	return "ROW(" + strings.Join(parts, ", ") + ")::pg_catalog.text"
}

func hash(text string) string {
	return "pg_catalog.hashtextextended(" + text + ` COLLATE pg_catalog."C", 0)`
}

// written is the text that the output function of a number's type gives. A cast to text would be
// one that someone may have defined. It costs more than a cast, which is why rows do without.
func written(expr string) string { return "pg_catalog.format('%s', " + expr + ")" }

// read runs one query over a table within a transaction of its own, and reports
// whether the table still has the file that the snapshot saw. After it, the session rests.
func (s *side) read(ctx context.Context, conn *pgx.Conn, r relation, scan func(pgx.Rows) error, sql string, args ...any) (provable bool, err error) {
	begun := time.Now()
	err = s.holder.Read(ctx, conn, s.lock, func() error {
		done := s.yielder.Reading(conn, nil)
		rows, _ := conn.Query(ctx, sql, args...)
		var err error
		for err == nil && rows.Next() {
			err = scan(rows)
		}
		rows.Close()
		done()
		if err = cmp.Or(err, rows.Err()); pg.IsCode(err, pg.CodeUndefinedTable, pg.CodeUndefinedColumn, pg.CodeInvalidSchema, pg.CodeWrongObjectType) {
			return nil // it was there in the snapshot: dropped, renamed or altered since
		}
		if err != nil {
			return err
		}
		var now uint32
		err = conn.QueryRow(ctx, "SELECT coalesce(pg_catalog.pg_relation_filenode($1::oid), 0)", r.oid).Scan(&now)
		provable = err == nil && now == r.filenode
		return err
	})
	if s.rest > 0 && err == nil {
		err = retry.Sleep(ctx, time.Duration(s.rest*float64(time.Since(begun))))
	}
	return provable, err
}
