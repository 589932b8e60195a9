package restore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/internal/base/failpoint"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/schema/finding"
)

// parallel restores the pending entries on all sessions, an entry as soon as its
// table is copied and what it depends on is done. Builds of indexes of one table
// run at the same time; every other statement has its tables for itself, since it
// may strengthen its lock and so meet another one in a deadlock. Entries of small
// tables share transactions. Each table is analysed when its entries are done.
func (r *restorer) parallel(ctx context.Context) error {
	q := newQueue(r)
	if r.cfg.Copied == nil && len(q.waiting) == 0 && len(q.analyze) == 0 {
		return nil
	}
	var err error
	if q.memory, err = readBudget(ctx, r.cfg.Conns[0], len(r.cfg.Conns)); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	idle := append([]*pgx.Conn(nil), r.cfg.Conns...)
	results := make(chan result)
	copied, quit, running := r.cfg.Copied, ctx.Done(), 0
	if copied == nil {
		q.allCopied()
	}
	var first error
	for {
		for first == nil && len(idle) > 0 {
			s := q.take(len(idle))
			if s == nil {
				break
			}
			conn := idle[len(idle)-1]
			idle = idle[:len(idle)-1]
			running++
			worker := &restorer{plan: r.plan, part: r.part, cfg: r.cfg, refused: r.refused}
			go func() {
				scripts, err := worker.step(ctx, conn, s)
				results <- result{conn: conn, step: s, scripts: scripts, findings: worker.report.Findings, err: err}
			}()
		}
		if running == 0 && (copied == nil || first != nil) {
			break
		}
		select {
		case oid, ok := <-copied:
			if !ok {
				copied = nil
				q.allCopied()
			} else {
				q.copied(oid)
			}
		case <-quit:
			if first == nil {
				first = context.Cause(ctx)
			}
			copied, quit = nil, nil
		case done := <-results:
			running--
			idle = append(idle, done.conn)
			for _, s := range done.scripts {
				if s.item() == s.entry.ID {
					r.record(s)
				} else {
					r.done[s.item()] = true
				}
			}
			r.report.Findings = append(r.report.Findings, done.findings...)
			q.release(done.step)
			if done.err == nil {
				failpoint.Here("schema.restored")
				continue
			}
			var refused *Error
			if first == nil || errors.As(done.err, &refused) && errors.Is(first, context.Canceled) {
				first = done.err
			}
		}
	}
	if first != nil {
		return first
	}
	r.report.Waiting = len(q.waiting)
	if r.cfg.Only == nil && len(q.waiting) > 0 {
		return errors.New("the archive's entries depend on one another in a circle: " + q.waiting[0].Kind + " " + q.waiting[0].Tag)
	}
	return nil
}

type result struct {
	conn     *pgx.Conn
	step     *step
	scripts  []script // that have committed
	findings []finding.Finding
	err      error
}

// step executes a step and returns what has committed of it.
func (r *restorer) step(ctx context.Context, conn *pgx.Conn, s *step) (done []script, err error) {
	if len(s.analyze) > 0 {
		return nil, r.analyze(ctx, conn, s.analyze)
	}
	scripts := lists.Map(s.entries, r.script)
	switch {
	case s.index:
		scripts[0].sql = s.setting + s.parted.index
		scripts[0].half = s.parted.rest != ""
	case s.parted.index != "":
		scripts[0].sql = s.parted.rest
	}
	err = r.execute(ctx, conn, scripts, func(committed ...script) { done = append(done, committed...) })
	return done, err
}

// analyze gives the planner statistics of tables. That a table cannot be analysed,
// such as one with a foreign table as a partition, becomes a finding.
func (r *restorer) analyze(ctx context.Context, conn *pgx.Conn, tables []pg.Name) error {
	sql := "ANALYZE " + strings.Join(lists.Map(tables, pg.Name.String), ", ")
	if r.cfg.Path != "" { // it evaluates the expressions of indexes
		sql = "SET LOCAL search_path = " + r.cfg.Path + "; " + sql
	}
	err := pg.Exec(ctx, conn, sql)
	refused, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case err == nil:
		return nil
	case !ok || conn.IsClosed() || ctx.Err() != nil || pg.ConnectionLost(err):
		return fmt.Errorf("analyse %s: %w", tables[0].Display(), err)
	case len(tables) == 1:
		r.report.Findings = append(r.report.Findings, finding.Finding{Kind: "STATISTICS", Schema: tables[0].Schema, Name: tables[0].Name,
			SQLSTATE: refused.Code, Harmless: true, Message: "the planner has none: " + refused.Message, Remedy: "run ANALYZE on the target"})
		return nil
	}
	for i := range tables {
		if err := r.analyze(ctx, conn, tables[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}
