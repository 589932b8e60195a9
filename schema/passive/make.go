package passive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/schema/catalog"
	"crossfade/schema/plan"
)

// Config says what Make cannot read from the catalog.
type Config struct {
	// Checks are names of check constraints, as they stand in SQL, that depend on more than the row
	// (Plan.LateChecks).
	Checks []string
	// Path is the search_path under which these are validated, as SET takes it; "" for none.
	Path string
	// Undone is what the first decision of this side (Plan.DecisionSQL) has left undone of its After:
	// from now on it is kept here, and due after the next decision.
	Undone []plan.Statement
	// Version is the server's, such as 150004; 0 for what it says itself.
	Version int
}

// ErrChanged is within the error of a Make whose tables were changed while it waited for their
// locks. It may be tried again.
var ErrChanged = errors.New("definitions were changed while their tables were being locked")

// Make makes the database that conn is connected to passive, within the caller's transaction, which
// is read committed and whose lock_timeout bounds each wait. It may be called for one that is passive
// already.
func Make(ctx context.Context, conn *pgx.Conn, cfg Config) error {
	if conn.PgConn().TxStatus() != 'T' {
		return errors.New("make the side passive: no transaction is open")
	}
	cfg.Version = cmp.Or(cfg.Version, pg.ServerVersion(conn))
	return pg.Wrap(withoutPath(ctx, conn, func() error { return setAside(ctx, conn, cfg) }), "make the side passive")
}

// withoutPath runs f without a search_path: every name that the server prints is qualified then, and
// no function or operator of someone else's is found in the place of PostgreSQL's.
func withoutPath(ctx context.Context, conn *pgx.Conn, f func() error) error {
	var before string
	if err := conn.QueryRow(ctx, `SELECT pg_catalog.current_setting('search_path')`).Scan(&before); err != nil {
		return err
	}
	if err := pg.Exec(ctx, conn, noPath); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, `SELECT pg_catalog.set_config('search_path', $1, true)`, before)
	return err
}

const noPath = `SELECT pg_catalog.set_config('search_path', '', true)`

func setAside(ctx context.Context, conn *pgx.Conn, cfg Config) error {
	// Two that ran at once would each miss what the other has set aside.
	if err := pg.Exec(ctx, conn, "LOCK TABLE crossfade.reaction IN SHARE ROW EXCLUSIVE MODE"); err != nil {
		return err
	}
	rows, err := read(ctx, conn)
	if err != nil {
		return err
	}
	role, err := readRole(ctx, conn, cfg.Version)
	if err != nil {
		return err
	}
	// What was set aside for sessions that are not in replica mode stays so.
	replica := role.replica && modeOf(rows) != modeOrigin
	first, err := find(ctx, conn, cfg, role, replica)
	if err != nil {
		return err
	}
	if err := pg.Exec(ctx, conn, first.lockSQL()); err != nil {
		return err
	}
	w, err := find(ctx, conn, cfg, role, replica)
	if err != nil {
		return err
	}
	if t, ok := w.unlocked(first); ok {
		return fmt.Errorf("table %s: %w", t.Display(), ErrChanged)
	}
	if err := pg.Exec(ctx, conn, strings.Join(w.off, ";\n")); err != nil {
		return err
	}
	if err := tryOut(ctx, conn, w.decide); err != nil {
		return fmt.Errorf("what was set aside could not be restored: %w", err)
	}
	w.after = append(slices.Clone(cfg.Undone), w.after...)
	return write(ctx, conn, merge(rows, replica, w))
}

// tryOut runs what the decision will run, and rolls it back: a role that cannot restore something,
// such as a key to a table that it has no right to refer to, is told so while nothing is lost.
func tryOut(ctx context.Context, conn *pgx.Conn, statements []plan.Statement) error {
	if err := pg.Exec(ctx, conn, "SAVEPOINT crossfade_restoration"); err != nil {
		return err
	}
	for _, s := range statements {
		if err := pg.Exec(ctx, conn, s.SQL); err != nil {
			return fmt.Errorf("%s %s: %w", strings.ToLower(s.Kind), pg.Name{Schema: s.Schema, Name: s.Name}.Display(), err)
		}
	}
	return pg.Exec(ctx, conn, backToSavepoint)
}

const backToSavepoint = "ROLLBACK TO SAVEPOINT crossfade_restoration; RELEASE SAVEPOINT crossfade_restoration"

// role is what the session's role may do.
type role struct {
	superuser bool
	clones    bool // change the state of triggers that partitions have from their table's
	unbound   bool // by row security, forced or not
	replica   bool // set session_replication_role, and nothing of a key acts then that it cannot set aside
}

// ownClones is the first major version in which a partition's triggers are not the system's.
const ownClones = 150000

func readRole(ctx context.Context, conn *pgx.Conn, version int) (r role, err error) {
	var acting bool
	err = conn.QueryRow(ctx, `SELECT r.rolsuper, r.rolsuper OR r.rolbypassrls,
			EXISTS (SELECT FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_constraint k ON k.oid = t.tgconstraint AND k.contype = 'f' WHERE t.tgenabled IN ('A', 'R'))
		FROM pg_catalog.pg_roles r WHERE r.rolname = current_user`).Scan(&r.superuser, &r.unbound, &acting)
	if err != nil {
		return r, err
	}
	r.clones = r.superuser || version >= ownClones
	if r.replica, err = mayBeReplica(ctx, conn); err != nil {
		return r, err
	}
	// Only a superuser may disable a trigger of a key; to others the key itself is left to drop.
	r.replica = r.replica && (r.superuser || !acting)
	return r, nil
}

// mayBeReplica tries it, since platforms grant it in ways that the catalog does not show.
func mayBeReplica(ctx context.Context, conn *pgx.Conn) (bool, error) {
	err := pg.Exec(ctx, conn, "SAVEPOINT crossfade_restoration; SET LOCAL session_replication_role = replica")
	if err != nil && !pg.IsCode(err, pg.CodeInsufficientPrivilege) {
		return false, err
	}
	return err == nil, pg.Exec(ctx, conn, backToSavepoint)
}

// work is what Make does, and what restores it.
type work struct {
	locks         map[pg.Name]bool // true: ACCESS EXCLUSIVE
	off           []string
	decide, after []plan.Statement
}

func find(ctx context.Context, conn *pgx.Conn, cfg Config, r role, replica bool) (*work, error) {
	db, err := catalog.Read(ctx, conn)
	if err != nil {
		return nil, err
	}
	w := &work{locks: map[pg.Name]bool{}}
	f := finder{conn: conn, cfg: cfg, role: r, replica: replica, db: db, work: w}
	for _, step := range []func(context.Context) error{f.definitions, f.triggers, f.rules, f.rowSecurity} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *work) lock(exclusive bool, tables ...*catalog.Relation) {
	for _, t := range tables {
		w.locks[t.Name()] = exclusive || w.locks[t.Name()]
	}
}

// lockSQL locks the tables in the order of journal.Tables, each at once in the mode that it needs.
func (w *work) lockSQL() string {
	tables := slices.SortedFunc(maps.Keys(w.locks), func(a, b pg.Name) int {
		return cmp.Or(strings.Compare(a.Schema, b.Schema), strings.Compare(a.Name, b.Name))
	})
	var sql strings.Builder
	for _, t := range tables {
		mode := "SHARE ROW EXCLUSIVE"
		if w.locks[t] {
			mode = "ACCESS EXCLUSIVE"
		}
		sql.WriteString("LOCK TABLE ONLY " + t.String() + " IN " + mode + " MODE;\n")
	}
	return sql.String()
}

// unlocked returns a table that is to be changed and was not locked for that.
func (w *work) unlocked(first *work) (pg.Name, bool) {
	for t, exclusive := range w.locks {
		had, locked := first.locks[t]
		if !locked || exclusive && !had {
			return t, true
		}
	}
	return pg.Name{}, false
}
