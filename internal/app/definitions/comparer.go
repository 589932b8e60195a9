package definitions

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
	"crossfade/internal/app/watch"
	"crossfade/internal/base/pg"
	"crossfade/schema/catalog"
	"crossfade/schema/fingerprint"
)

const (
	// compareTimeout bounds the first comparison of definitions: pg_dump on both sides, as long
	// as the survey of a cutover may take. It takes longer where a schema is large and the
	// servers are far, so that each one that was not done in time gives the next twice as
	// much, up to compareMost.
	compareTimeout = time.Minute
	compareMost    = time.Hour
	// compareTries bounds how often it begins again since someone changes definitions meanwhile.
	compareTries = 3
	// compareSlack is the part of the caller's time that is left for the answer that there is no
	// result yet.
	compareSlack = time.Second
)

// definitions finds out whether what pg_dump would write of the source, and what rows
// and roles are by their identities, is what the target has or will get with the decision
// (C20, C26). A digest of the catalogs says cheaply whether there is something to
// compare. It is safe for concurrent use; comparisons are made by run, one at a time.
type Comparer struct {
	Migration      *migration.Migration
	Source, Target *dbconn.Link    // of comparisons
	Waiting        [2]*dbconn.Link // to source and target: who waits for pg_dump's locks, and for whom it waits
	log            zerolog.Logger
	jobs           chan *comparison

	mu      sync.Mutex
	current *comparison // under way, or the last one
	seen    [2]fingerprint.Digest
	known   bool // seen has been compared
	found   findings
	bound   time.Duration // of the next comparison
	took    time.Duration // by the last digests

	rows rowIdentities // used by run alone
}

// findings are what each part of a comparison has found; what cannot be made good comes first.
type findings struct{ changes, rows, roles []watch.Notice }

func (f findings) all() []watch.Notice {
	return slices.Concat(f.rows, f.changes, f.roles)
}

// comparison is one that was asked for.
type comparison struct {
	done chan struct{} // closed when err is set
	err  error
}

func New(m *migration.Migration, source, target *dbconn.Link, waiting [2]*dbconn.Link, log zerolog.Logger) *Comparer {
	return &Comparer{Migration: m, Source: source, Target: target, Waiting: waiting, log: log, jobs: make(chan *comparison, 1), bound: compareTimeout}
}

// Run makes comparisons until ctx ends.
func (d *Comparer) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case c := <-d.jobs:
			c.err = d.compareInTime(ctx)
			close(c.done)
		}
	}
}

// compareInTime makes one comparison, and gives the next one more time where that was too short.
func (d *Comparer) compareInTime(ctx context.Context) error {
	d.mu.Lock()
	bound := d.bound
	d.mu.Unlock()
	bounded, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	err := d.compare(bounded)
	if err == nil || ctx.Err() != nil || bounded.Err() == nil {
		return err
	}
	next := min(2*bound, compareMost)
	d.mu.Lock()
	d.bound = next
	d.mu.Unlock()
	d.log.Info().Dur("bound", bound).Dur("next", next).Msg("a comparison of definitions was not done in time; the next one has more")
	// A program that was killed at the bound says nothing of that: the bound is what counts.
	return fmt.Errorf("it was not done within %v, and the next one has %v: %w (%w)", bound, next, bounded.Err(), err)
}

// takeDigests takes those of both sides at once.
func takeDigests(ctx context.Context, source, target *pgx.Conn) (now [2]fingerprint.Digest, err error) {
	var both errgroup.Group // without a context: a broken question would end the session
	for i, conn := range []*pgx.Conn{source, target} {
		both.Go(func() (err error) {
			now[i], err = fingerprint.TakeDigest(ctx, conn)
			return err
		})
	}
	return now, both.Wait()
}

// Ask is the watcher's question. Where something has changed it waits for the
// comparison as long as it may.
func (d *Comparer) Ask(ctx context.Context, source, target *pgx.Conn) ([]watch.Notice, error) {
	if !d.Migration.Schema.HasPlan() {
		return nil, nil
	}
	begin := time.Now()
	now, err := takeDigests(ctx, source, target)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.took = time.Since(begin)
	d.mu.Unlock()
	patience := compareTimeout
	if deadline, ok := ctx.Deadline(); ok {
		patience = time.Until(deadline) - compareSlack
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		found, c, joined := d.answer(now)
		if c == nil {
			return found, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
			return beingCompared(nil), nil
		case <-c.done:
		}
		switch {
		case c.err != nil:
			found, err := d.unfinished(ctx, now, c.err)
			if err == nil && strings.Contains(c.err.Error(), "permission denied") {
				nameOwners(ctx, source, found)
			}
			return found, err
		case !joined: // it has read both sides after the question was asked
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.found.all(), nil
		}
	}
}

// answer returns what was found in both sides as they are now or, where that has not been compared,
// a comparison to wait for: one that was under way already (joined), which may have read the sides
// before their present state, or one that has yet to begin.
func (d *Comparer) answer(now [2]fingerprint.Digest) (found []watch.Notice, c *comparison, joined bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known && d.seen == now {
		return d.found.all(), nil, false
	}
	if c = d.current; c != nil && !c.over() {
		return nil, c, true
	}
	c = &comparison{done: make(chan struct{})}
	d.current = c
	d.jobs <- c // run has taken the one before
	return nil, c, false
}

// unfinished answers after a comparison without a result. Where that passes by itself, what has
// changed is still not compared, and the answer before is none: except for a file of a table that
// is another one, as after each TRUNCATE, which hardly ever means anything and is asked about
// again.
func (d *Comparer) unfinished(ctx context.Context, now [2]fingerprint.Digest, err error) ([]watch.Notice, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	changed := !d.known
	for i := range now {
		changed = changed || d.seen[i].Definitions != now[i].Definitions || d.seen[i].Roles != now[i].Roles
	}
	if !changed || !watch.PassesByItself(ctx, err) {
		return nil, err
	}
	return beingCompared(err), nil
}

// beingCompared says that there is no answer yet and, where a comparison has ended without one,
// why.
func beingCompared(why error) []watch.Notice {
	detail := "definitions were changed on the source or the target and are being compared"
	remedy := "wait until the comparison has ended; crossfade run begins it again by itself"
	if why != nil {
		detail += "; the last comparison came to no end: " + why.Error()
		if ends := dbconn.LockRemedy(why); ends != "" {
			remedy = ends + "; crossfade run begins the comparison again by itself"
		}
	}
	return []watch.Notice{{Usual: why == nil, Blocker: control.Blocker{Code: "definitions_compared", Detail: detail, Remedy: remedy}}}
}

// nameOwners makes a comparison that may not read the source say what to grant: since the run
// began, objects were given to roles of which the role of --source is not a member.
func nameOwners(ctx context.Context, source *pgx.Conn, found []watch.Notice) {
	owners, err := pg.Rows(ctx, source, pgx.RowTo[string], `SELECT DISTINCT pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(c.relowner)) FROM pg_catalog.pg_class c
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT pg_catalog.pg_has_role(c.relowner, 'USAGE') AND `+catalog.UserSchema+` ORDER BY 1`)
	if err != nil || len(owners) == 0 {
		return // the server's own message has to do
	}
	for i := range found {
		found[i].Remedy = fmt.Sprintf("on the source: GRANT %s TO %s; or give back what was given to another owner; crossfade run begins the comparison again by itself",
			strings.Join(owners, ", "), pg.QuoteIdent(source.Config().User))
	}
}

// restFactor is how many times as long as the digests took the status waits before it takes them
// again: a catalog of a hundred thousand tables costs only a part of a core.
const restFactor = 5

func (d *Comparer) Rest() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return min(restFactor*d.took, compareTimeout)
}

func (c *comparison) over() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// AskFenced is the question under the fence: whether all is as it was compared. What
// was changed since then is no part of the decision that was rehearsed.
func (d *Comparer) AskFenced(ctx context.Context, source, target *pgx.Conn) ([]watch.Notice, error) {
	now, err := takeDigests(ctx, source, target)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	seen, known, found := d.seen, d.known, d.found
	d.mu.Unlock()
	if !known {
		return nil, errors.New("the definitions have not been compared yet")
	}
	for i, side := range []string{"source", "target"} {
		if seen[i].Definitions != now[i].Definitions {
			return []watch.Notice{{Blocker: control.Blocker{Code: "definition_differs", Detail: fmt.Sprintf("definitions were changed on the %s a moment ago (%s)", side, strings.Join(seen[i].Changed(now[i]), ", ")),
				Remedy: "ask for the cutover again"}}}, nil
		}
	}
	if seen[0].Roles != now[0].Roles || seen[1].Roles != now[1].Roles {
		if found.roles, err = d.roles(ctx, source, target); err != nil {
			return nil, err
		}
	}
	// A file of a table may be another one: as long as no column is, TRUNCATE or VACUUM FULL made
	// it.
	return found.all(), nil
}

// compare compares what has changed since the last comparison.
func (d *Comparer) compare(ctx context.Context) error {
	return d.Source.Do(ctx, func(ctx context.Context, source *pgx.Conn) error {
		return d.Target.Do(ctx, func(ctx context.Context, target *pgx.Conn) error {
			return dbconn.NameHolders(ctx, [2]*dbconn.Link{d.Source, d.Target}, d.Waiting, func() error {
				for range compareTries {
					settled, err := d.compareOnce(ctx, source, target)
					if err != nil || settled {
						return err
					}
				}
				return fmt.Errorf("compare definitions: they are being changed on the source: %w", context.DeadlineExceeded)
			})
		})
	})
}

func (d *Comparer) compareOnce(ctx context.Context, source, target *pgx.Conn) (settled bool, err error) {
	now, err := takeDigests(ctx, source, target)
	if err != nil {
		return false, err
	}
	d.mu.Lock()
	seen, known, found := d.seen, d.known, d.found
	d.mu.Unlock()
	definitions := !known || seen[0].Definitions != now[0].Definitions || seen[1].Definitions != now[1].Definitions
	if now[0].Definitions != d.Migration.Schema.Digest() {
		if settled, err := d.renew(ctx, source, target, now[0].Definitions); err != nil || !settled {
			return settled, err
		}
		definitions = true
	}
	if definitions {
		if found.changes, err = d.changes(ctx, source, target); err != nil {
			return false, err
		}
	}
	if definitions || seen[0].Storage != now[0].Storage || seen[1].Storage != now[1].Storage {
		if found.rows, err = d.rows.check(ctx, source, target); err != nil {
			return false, err
		}
	}
	if !known || seen[0].Roles != now[0].Roles || seen[1].Roles != now[1].Roles {
		if found.roles, err = d.roles(ctx, source, target); err != nil {
			return false, err
		}
	}
	d.mu.Lock()
	d.seen, d.known, d.found = now, true, found
	d.mu.Unlock()
	return true, nil
}

// renew dumps the source's definitions again, and what has yet to be made on the target is then
// made from these. It returns false if they changed meanwhile.
func (d *Comparer) renew(ctx context.Context, source, target *pgx.Conn, digest string) (settled bool, err error) {
	begin := time.Now()
	archive, err := d.dump(ctx, d.Migration.Task.Source, d.Waiting[0])
	if err != nil {
		return false, err
	}
	db, err := catalog.Read(ctx, source)
	if err != nil {
		return false, err
	}
	after, err := fingerprint.TakeDigest(ctx, source)
	if err != nil || after.Definitions != digest {
		return false, err
	}
	d.log.Info().Dur("took", time.Since(begin)).Msg("definitions of the source were changed and are read again")
	return true, d.Migration.Schema.TakeNewer(ctx, target, archive, digest, db)
}
