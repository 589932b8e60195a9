package migration

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/options"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/schema/archive"
	"crossfade/schema/catalog"
	"crossfade/schema/finding"
	"crossfade/schema/restore"
	"crossfade/schema/roles"
)

// askAtOnce is how many tables one statement asks about: few enough that the text
// stays small and the locks fit the server's lock table.
const askAtOnce = 100

// openTables makes tables that are on the target ready to take rows: they must
// be there and be empty, and what reacts to a write is set aside.
func (m *Rows) openTables(ctx context.Context, target *pgx.Conn) error {
	if err := m.tablesFit(ctx, target); err != nil {
		return err
	}
	if err := m.setAside(ctx, target); err != nil {
		return err
	}
	if err := m.shut(ctx, target); err != nil {
		return err
	}
	return m.task.reach(ctx, target, journal.PhasePrepared)
}

// tablesFit refuses tables that are missing, lack a column, or hold rows.
func (m *Rows) tablesFit(ctx context.Context, target *pgx.Conn) error {
	there, err := catalog.Read(ctx, target)
	if err != nil {
		return err
	}
	var queries []string
	named := map[string]string{} // as statements name them
	for _, r := range m.schema.catalog.Relations {
		if m.schema.withoutData[r.OID] {
			continue
		}
		t := there.Lookup(r.Name())
		if t == nil {
			return &Refusal{fmt.Errorf("table %s is not on the target: copy the schema first, with crossfade copy --schema-only, or leave --data-only out", r.Name().Display())}
		}
		for _, c := range r.CopyColumns() {
			switch there := t.Column(c); {
			case there == nil:
				return &Refusal{fmt.Errorf("the target's table %s has no column %s: leave the table out with --exclude-table; or on the target: ALTER TABLE %s ADD COLUMN %s %s",
					r.Name().Display(), c, r.Name(), pg.QuoteIdent(c), r.Column(c).Type)}
			case there.Generated != 0:
				return &Refusal{fmt.Errorf("the target's table %s generates column %s, which the source's does not: leave the table out with --exclude-table; or on the target: ALTER TABLE %s ALTER COLUMN %s DROP EXPRESSION",
					r.Name().Display(), c, r.Name(), pg.QuoteIdent(c))}
			}
		}
		if t.Kind == catalog.KindTable {
			named[r.Name().Display()] = r.Name().String()
			queries = append(queries, "(SELECT "+pg.QuoteLiteral(r.Name().Display())+" FROM ONLY "+r.Name().String()+" LIMIT 1)")
		}
	}
	var full []string
	for some := range slices.Chunk(queries, askAtOnce) {
		found, err := pg.Rows(ctx, target, pgx.RowTo[string], strings.Join(some, " UNION ALL "))
		if err != nil {
			return fmt.Errorf("look for rows on the target: %w", err)
		}
		full = append(full, found...)
	}
	if len(full) == 0 {
		return nil
	}
	statement := lists.Map(full, func(name string) string { return named[name] })
	return &Refusal{fmt.Errorf("%d tables of the target hold rows, such as %s: leave them out with --exclude-table; or on the target: TRUNCATE %s", len(full), full[0], strings.Join(statement, ", "))}
}

// asideQuery writes, for tables that take part, what takes the reacting thing away
// and what brings it back: foreign keys of both directions, and triggers.
const asideQuery = `
SELECT k.conrelid::pg_catalog.regclass::text || ' ' || k.conname,
	pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I', k.conrelid::pg_catalog.regclass, k.conname),
	pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s', k.conrelid::pg_catalog.regclass, k.conname, pg_catalog.pg_get_constraintdef(k.oid))
FROM pg_catalog.pg_constraint k
WHERE k.contype = 'f' AND k.conparentid = 0 AND (k.conrelid = ANY ($1) OR k.confrelid = ANY ($1))
UNION ALL
SELECT t.tgrelid::pg_catalog.regclass::text || ' ' || t.tgname,
	pg_catalog.format('ALTER TABLE ONLY %s DISABLE TRIGGER %I', t.tgrelid::pg_catalog.regclass, t.tgname),
	pg_catalog.format('ALTER TABLE ONLY %s ENABLE %s TRIGGER %I', t.tgrelid::pg_catalog.regclass,
		CASE t.tgenabled WHEN 'A' THEN 'ALWAYS' WHEN 'R' THEN 'REPLICA' ELSE '' END, t.tgname)
FROM pg_catalog.pg_trigger t
WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgrelid = ANY ($1) AND t.tgname <> '` + journal.FenceTrigger + `'`

// setAside takes foreign keys and triggers of the tables away and keeps in
// crossfade.aside what brings them back, all in one transaction.
func (m *Rows) setAside(ctx context.Context, target *pgx.Conn) error {
	there, err := catalog.Read(ctx, target)
	if err != nil {
		return err
	}
	var oids []uint32
	for _, r := range m.schema.catalog.Relations {
		if t := there.Lookup(r.Name()); t != nil {
			oids = append(oids, t.OID)
		}
	}
	err = pgx.BeginFunc(ctx, target, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL search_path = ''`); err != nil { // names are qualified then
			return err
		}
		type reacting struct{ Name, Off, On string }
		list, err := pg.Rows(ctx, tx, pgx.RowToStructByPos[reacting], asideQuery, oids)
		if err != nil {
			return err
		}
		for _, x := range list {
			if _, err := tx.Exec(ctx, x.Off); err != nil {
				return fmt.Errorf("%s: %w", x.Name, err)
			}
			if _, err := tx.Exec(ctx, `INSERT INTO crossfade.aside (id, name, sql) SELECT coalesce(max(id), 0) + 1, $1, $2 FROM crossfade.aside`, x.Name, x.On); err != nil {
				return err
			}
		}
		return nil
	})
	return pg.Wrap(err, "set foreign keys and triggers aside")
}

// EmptyAgain takes back a copy of data alone: the tables, which were empty, are
// empty again, and have their foreign keys and triggers. It does nothing where a
// copy set nothing aside, and may be begun again.
func EmptyAgain(ctx context.Context, target *pgx.Conn, tell func(string)) error {
	run, err := journal.LoadTarget(ctx, target)
	if err != nil || run == nil || !slices.Contains(strings.Fields(run.Options), "--data-only") {
		return err
	}
	if _, err := journal.DropFence(ctx, target, journal.Patience{LockTimeout: options.DefaultLockTimeout, Together: journal.Together}); err != nil { // it stops TRUNCATE as well
		return err
	}
	tables, err := pg.Rows(ctx, target, pgx.RowToStructByPos[pg.Name], `SELECT nsp, rel FROM crossfade.relation WHERE state <> 'pending' OR via_rel <> '' ORDER BY nsp, rel`)
	if err != nil {
		return fmt.Errorf("read what was copied: %w", err)
	}
	for _, name := range tables {
		if _, err := target.Exec(ctx, "TRUNCATE ONLY "+name.String()); err != nil {
			return fmt.Errorf("empty table %s: %w", name.Display(), err)
		}
		tell("target: rows of TABLE " + name.Display())
	}
	_, err = putBack(ctx, target, false)
	return err
}

// putBack restores what was set aside. It may be repeated. With goOn it continues after what the
// target refuses, and returns that.
func putBack(ctx context.Context, target *pgx.Conn, goOn bool) (refused []finding.Finding, err error) {
	type aside struct {
		ID        int
		Name, SQL string
	}
	list, err := pg.Rows(ctx, target, pgx.RowToStructByPos[aside], `SELECT id, name, sql FROM crossfade.aside ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("read what was set aside: %w", err)
	}
	for _, x := range list {
		err := pgx.BeginFunc(ctx, target, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, x.SQL); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, `DELETE FROM crossfade.aside WHERE id = $1`, x.ID)
			return err
		})
		switch {
		case err == nil:
		case goOn && restore.RefusedForGood(err) && !target.IsClosed():
			refused = append(refused, finding.Finding{Kind: "CONSTRAINT OR TRIGGER", Name: x.Name, Message: said(err), SQLSTATE: pg.Code(err), Remedy: "remove the cause, then on the target: " + x.SQL})
		default:
			return refused, fmt.Errorf("bring back %s: %w", x.Name, err)
		}
	}
	return refused, nil
}

// narrow leaves of the source's catalog what the archive takes along.
func narrow(db *catalog.Database, a *archive.Archive) {
	taken := withRows(a, func(archive.Entry) bool { return true })
	leaveOut(db, func(oid uint32, extension string) bool { return extension == "" && !taken[oid] })
}

// takesSequence reports whether the position of a sequence is copied.
func (m *Schema) takesSequence(name pg.Name) bool {
	return slices.ContainsFunc(m.catalog.Sequences, func(s catalog.Sequence) bool {
		return s.Name() == name && !m.withoutData[s.OID] && (s.Extension == "" || m.taken == nil || slices.Contains(m.taken.Relations, s.OID))
	})
}

// takesRows tells, by its number, whether the rows of a table of the source are copied;
// nil where those of all are. As with pg_dump, patterns decide on tables of extensions too.
func (m *Schema) takesRows() func(oid uint32) bool {
	m.task.mu.Lock()
	defer m.task.mu.Unlock()
	if m.taken == nil {
		return nil
	}
	takes := lists.Set(m.taken.Relations)
	for _, oid := range m.taken.WithoutRows {
		delete(takes, oid)
	}
	return func(oid uint32) bool { return takes[oid] }
}

// prepareTarget makes the roles that the schema names and drops what is in its way,
// where the copy was asked to.
func (m *Migration) prepareTarget(ctx context.Context, target *pgx.Conn) error {
	existing, err := m.inTheWay(ctx, target)
	if err != nil {
		return &Refusal{err}
	}
	if m.Task.Options.Schema.Roles {
		known, err := askSource(ctx, m.Task, nil, 0, roles.Read)
		if err != nil {
			return err
		}
		report, err := roles.Make(ctx, target, known, m.Task.Roles, nil, m.Task.Log)
		m.Findings.note(report.Findings)
		if err != nil {
			return err
		}
	}
	if len(existing) == 0 {
		return nil
	}
	if err := restore.DropExisting(ctx, target, m.Schema.Plan, existing); err != nil {
		return &Refusal{err}
	}
	m.Task.Log.Info().Int("objects", len(existing)).Msg("what the target had of them is dropped")
	return nil
}

// inTheWay lists what is to be dropped on the target, and asks whether it may be.
func (m *Migration) inTheWay(ctx context.Context, target *pgx.Conn) ([]restore.Existing, error) {
	if !m.Task.Options.Clean {
		return nil, nil
	}
	var begun bool // what is there has been restored by us
	if err := target.QueryRow(ctx, `SELECT EXISTS (SELECT FROM crossfade.item)`).Scan(&begun); err != nil {
		return nil, fmt.Errorf("read what was restored: %w", err)
	}
	if begun {
		return nil, nil
	}
	existing, err := restore.FindExisting(ctx, target, m.Schema.Plan)
	if err != nil || len(existing) == 0 {
		return nil, err
	}
	return existing, m.Task.Options.Allow(ctx, options.Removal{Target: m.Task.Target.Redacted(), Objects: existing})
}

// Refusal is an error of a copy that has changed nothing but what its journal is.
type Refusal struct{ error }

func (r *Refusal) Unwrap() error { return r.error }

// shut closes the fence on the target's tables, but where a one-shot copy is not
// alone there, on those that it copies only.
func (m *Rows) shut(ctx context.Context, target *pgx.Conn) error {
	var pick func(pg.Name) bool
	if m.task.oneShot() {
		pick = func(n pg.Name) bool { return m.schema.catalog.Lookup(n) != nil }
	}
	if err := journal.PrepareFenceOf(ctx, target, journal.Patience{LockTimeout: m.task.LockTimeout, Together: journal.Together}, true, pick); err != nil {
		return err
	}
	return journal.Seal(ctx, target)
}
