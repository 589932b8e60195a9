package compare

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/migration"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/onedatabase"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/snapshot"
	"crossfade/replicate/verify"
	"crossfade/schema/catalog"
)

const (
	// restLook is how long both sides are looked at before they count as being at rest: sessions tell
	// the counters of tables what they have written at most once a second (PGSTAT_MIN_INTERVAL).
	restLook = 1200 * time.Millisecond
	// restPoll is how often sessions that write are looked for meanwhile.
	restPoll = 50 * time.Millisecond
	// restLate is how long a session that is idle may keep to itself what it has written before
	// (PGSTAT_IDLE_INTERVAL), and a little more.
	restLate = 11 * time.Second
	// showEvery is how often progress is told.
	showEvery = time.Second
)

// WrittenError says that a side that was to be at rest is written to.
type WrittenError struct {
	Side string   // "source" or "target"
	By   []string // sessions, as far as they are known
}

func (e *WrittenError) Error() string {
	by := "by sessions that ended at once"
	if len(e.By) > 0 {
		by = "by " + strings.Join(e.By, "; ")
	}
	return fmt.Sprintf("the %s is being written, %s: two databases can be compared like this only at rest: stop what writes to it, or have crossfade run follow it and ask that with crossfade verify --control", e.Side, by)
}

// AtRest compares two databases that nobody writes to, and refuses them with a *WrittenError if
// somebody does, also while they are compared. show is called with the progress every second, from
// another goroutine. Nothing is written. Its error says why the comparison could not be completed.
func AtRest(ctx context.Context, source, target pg.DSN, jobs int, show func(control.Verify), log zerolog.Logger) (control.VerifyReport, error) {
	from, to, end, err := dbconn.Both(ctx, source, target, "verify")
	if err != nil {
		return control.VerifyReport{}, err
	}
	defer end()
	if err := onedatabase.Refuse(ctx, from, to); err != nil {
		return control.VerifyReport{}, err
	}
	for again := false; ; again = true {
		r := &resting{source: source, target: target, from: from, to: to, jobs: jobs, log: log, report: control.VerifyReport{Begun: time.Now()}}
		if err := r.awaitRest(ctx); err != nil {
			return control.VerifyReport{}, err
		}
		if err := r.compare(ctx, show); err != nil {
			return control.VerifyReport{}, err
		}
		// Where the counters have moved, a session may have told only now what it wrote before.
		err := r.stillAtRest(ctx)
		if again || !errors.As(err, new(*WrittenError)) {
			return r.report, err
		}
	}
}

// compare compares everything.
func (r *resting) compare(ctx context.Context, show func(control.Verify)) error {
	if err := r.tables(ctx, show); err != nil {
		return err
	}
	rest, sequences, err := compareRest(ctx, r.from, r.to, nil)
	if err != nil {
		return err
	}
	r.report.Sequences, r.report.Differences = sequences, append(r.report.Differences, differences(rest)...)
	r.report.Judge()
	r.report.Ended = time.Now()
	return nil
}

// resting is one comparison of two databases at rest.
type resting struct {
	source, target pg.DSN
	from, to       *pgx.Conn
	jobs           int
	log            zerolog.Logger
	before         [2]written
	report         control.VerifyReport
}

// written is how much a database has been written.
type written struct {
	rows int64  // in tables, as their counters have been told
	xmax uint64 // the next transaction number of the server
}

func lookAt(ctx context.Context, conn *pgx.Conn) (w written, err error) {
	var now pg.Snapshot
	err = conn.QueryRow(ctx, `SELECT coalesce(pg_catalog.sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint, `+snapshot.Current(conn)+`
		FROM pg_catalog.pg_stat_user_tables WHERE schemaname OPERATOR(pg_catalog.<>) 'crossfade'`).Scan(&w.rows, &now)
	w.xmax = now.Xmax
	return w, pg.Wrap(err, "look whether somebody writes")
}

// sides are both sessions, with the names of their sides.
func (r *resting) sides() [2]struct {
	name string
	conn *pgx.Conn
} {
	return [2]struct {
		name string
		conn *pgx.Conn
	}{{"source", r.from}, {"target", r.to}}
}

// awaitRest looks for a moment whether somebody writes.
func (r *resting) awaitRest(ctx context.Context) error {
	for i, s := range r.sides() {
		var err error
		if r.before[i], err = lookAt(ctx, s.conn); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	for range retry.PollFor(ctx, restPoll, restLook) {
		for _, s := range r.sides() {
			by, err := writers(ctx, s.conn)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			if len(by) > 0 {
				return &WrittenError{Side: s.name, By: by}
			}
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	_, err := r.moved(ctx)
	return err
}

// moved reports whether a transaction of either server has written since; a *WrittenError says that
// tables have been written to.
func (r *resting) moved(ctx context.Context) (moved bool, err error) {
	for i, s := range r.sides() {
		now, err := lookAt(ctx, s.conn)
		switch {
		case err != nil:
			return false, fmt.Errorf("%s: %w", s.name, err)
		case now.xmax == r.before[i].xmax: // no transaction of the whole server has written
		case now.rows != r.before[i].rows:
			return true, &WrittenError{Side: s.name}
		default:
			moved = true
		}
	}
	return moved, nil
}

// stillAtRest makes sure that what was found is not that somebody has written meanwhile. Where both
// sides are equal it does not matter.
func (r *resting) stillAtRest(ctx context.Context) error {
	if r.report.Outcome == control.Equal {
		return nil
	}
	for range retry.PollFor(ctx, showEvery, restLate) {
		if moved, err := r.moved(ctx); err != nil || !moved {
			return err
		}
	}
	return ctx.Err()
}

// writers names the sessions whose transactions have written to the database.
func writers(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	by, err := pg.Rows(ctx, conn, pgx.RowTo[string], `SELECT pg_catalog.format('session %s (user %s, application %s)', pid, coalesce(usename::text, '?'), coalesce(nullif(application_name, ''), '-'))
		FROM pg_catalog.pg_stat_activity WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database() AND backend_xid IS NOT NULL
			AND coalesce(backend_type, 'client backend') OPERATOR(pg_catalog.=) 'client backend' ORDER BY pid LIMIT 3`)
	return by, pg.Wrap(err, "look whether somebody writes")
}

// tables compares the rows of all tables.
func (r *resting) tables(ctx context.Context, show func(control.Verify)) error {
	here, err := catalog.Read(ctx, r.from)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	there, err := catalog.Read(ctx, r.to)
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	path, err := migration.OwnSearchPath(ctx, r.source)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	routes, sizes := map[uint32]pg.Name{}, map[pg.Name]int64{}
	for oid, route := range here.RoutesTo(there) {
		routes[oid] = route.Via.Name()
	}
	for _, rel := range here.Relations {
		sizes[rel.Name()] = rel.Bytes
	}
	var mu sync.Mutex
	now := control.Verify{State: "running"}
	cfg := verify.Config{Tables: migration.Compared(here, routes, true), Jobs: r.jobs, Sample: Sample, SearchPath: path, Log: r.log}
	var found []journal.Found
	cfg.Settled = func(result verify.Result) {
		mu.Lock()
		defer mu.Unlock()
		f := foundOf(result)
		if found = append(found, f); f.Verdict == control.Different {
			now.Differences++
		}
		now.TablesDone++
	}
	now.TablesTotal = len(cfg.Tables)
	connect := func(dsn pg.DSN) snapshot.Connect {
		return func(ctx context.Context) (*pgx.Conn, error) { return pg.Connect(ctx, dsn, pg.WithName("verify")) }
	}
	round := &verify.Round{Config: cfg, Sizes: sizes, Pair: func(ctx context.Context) (*verify.Frozen, error) {
		return verify.Freeze(ctx, connect(r.source), connect(r.target))
	}}
	progress := &run{round: round, begun: time.Now()}
	both, ctx := errgroup.WithContext(ctx)
	shown, stop := context.WithCancel(ctx)
	both.Go(func() error {
		defer stop()
		return round.Run(ctx)
	})
	both.Go(func() error {
		for range retry.Every(shown, showEvery) {
			mu.Lock()
			v := now
			mu.Unlock()
			v.LeftMS = progress.left().Milliseconds()
			show(v)
		}
		return nil
	})
	if err := both.Wait(); err != nil {
		return err
	}
	slices.SortFunc(found, func(a, b journal.Found) int { return strings.Compare(a.Table.Display(), b.Table.Display()) })
	r.report.Tables, r.report.Differences = len(cfg.Tables), differences(found)
	return nil
}
