package copy

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/internal/failpoint"
	"crossfade/internal/pg"
	"crossfade/replicate/snapshot"
)

var (
	// errRewritten says that the relation's file is not the one that the
	// snapshot sees.
	errRewritten = errors.New("table was truncated or rewritten on the source")
	// errStale says that the record of the relation names another attempt than
	// that of the chunk.
	errStale = errors.New("the record in crossfade.relation was changed by another copier: only one may run against a target")
	// errDisagree says that the two COPY tags differ.
	errDisagree = errors.New("row counts differ")
)

// chunk copies one span and commits it together with its record.
func (w *worker) chunk(ctx context.Context, t *task) (rows int64, err error) {
	if err := w.connect(ctx); err != nil {
		return 0, err
	}
	// A former attempt may have committed without an answer.
	if t.tries > 0 {
		l, landed, err := findLanding(ctx, w.target, t.rel.table, t.span, t.pass.attempt)
		if err != nil || landed {
			return l.rows, err
		}
	}
	if err := w.beginTarget(ctx, t); err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			w.abandon()
		}
	}()
	fl := &flight{c: w.counters, share: t.pass.facts.share(t.span)}
	defer fl.end()
	rows, err = w.relay(ctx, t, t.rel.table.copyOut(t.span), fl)
	if err != nil {
		return 0, err
	}
	if err := w.commitTarget(ctx, t, rows, fl.bytes); err != nil {
		return 0, err
	}
	failpoint.Here("copy.chunk")
	return rows, nil
}

// beginTarget opens the chunk's transaction on the target. The lock on the
// relation's record keeps it from being begun anew until the chunk has ended.
func (w *worker) beginTarget(ctx context.Context, t *task) error {
	results, err := w.target.PgConn().Exec(ctx, fmt.Sprintf(
		"BEGIN; SELECT 1 FROM crossfade.relation WHERE relid = %d AND state = '%s' AND attempt = %d FOR SHARE",
		t.rel.table.OID, stateCopying, t.pass.attempt)).ReadAll()
	if err != nil {
		return fmt.Errorf("begin chunk: %w", err)
	}
	if len(results) != 2 || len(results[1].Rows) != 1 {
		w.abandon()
		return errStale
	}
	return nil
}

// relay runs the two COPYs, the source's by the statements out, and returns the
// number of rows that both name. The source's transaction has ended when it returns
// without error.
func (w *worker) relay(ctx context.Context, t *task, out string, fl *flight) (int64, error) {
	if err := t.pass.holder.Begin(ctx, w.source, w.cfg.SourceLockTimeout); err != nil {
		return 0, err
	}
	r := newRelay(w.bufs, fl.add)
	r.limit = w.cfg.Limit
	done := w.yielder.Reading(w.source, r.discard)
	defer done()
	type outcome struct {
		rows int64
		file string
		err  error
	}
	read := make(chan outcome, 1)
	go func() {
		rows, file, err := copyOut(ctx, w.source.PgConn(), fmt.Sprintf("%s; SELECT pg_catalog.pg_relation_filenode(%d); COMMIT",
			out, t.rel.table.OID), r)
		read <- outcome{rows, file, err}
	}()
	in, targetErr := copyIn(ctx, w.target.PgConn(), t.rel.table.copyIn(), r)
	src := <-read
	switch {
	case errors.Is(src.err, errYielded), src.err != nil && !errors.Is(src.err, errReaderGone):
		return 0, fmt.Errorf("%w: %w", ErrRead, src.err)
	case targetErr != nil:
		return 0, fmt.Errorf("%w: %w", ErrWrite, targetErr)
	case src.err != nil:
		return 0, fmt.Errorf("%w: %w", ErrRead, src.err)
	case src.file != fmt.Sprint(t.pass.facts.filenode):
		// Read after the rows, while their lock was still held.
		return 0, errRewritten
	case src.rows != in:
		return 0, fmt.Errorf("%w: the source sent %d, the target took %d: a trigger or rule on the target table changes what is written", errDisagree, src.rows, in)
	}
	return in, nil
}

func (w *worker) commitTarget(ctx context.Context, t *task, rows, bytes int64) error {
	_, err := w.target.PgConn().Exec(ctx, fmt.Sprintf(
		"INSERT INTO crossfade.chunk (relid, lo, hi, snapshot, rows, bytes, attempt) VALUES (%d, %d, %d, %s, %d, %d, %d); COMMIT",
		t.rel.table.OID, t.span.lo, t.span.hi, pg.QuoteLiteral(t.pass.holder.Text()), rows, bytes, t.pass.attempt)).ReadAll()
	if err != nil {
		return fmt.Errorf("commit chunk: %w", err)
	}
	return nil
}

// recordExists reports whether err says that the chunk's record is there: an
// attempt whose end we did not see has committed after all.
func recordExists(err error) bool {
	var pe *pgconn.PgError
	return errors.As(err, &pe) && pe.Code == pg.CodeUniqueViolation && pe.SchemaName == "crossfade" && pe.TableName == "chunk"
}

// abandon brings both sessions back to where a new transaction can begin, or
// closes them. A chunk that failed never leaves one of its transactions open.
func (w *worker) abandon() {
	for _, conn := range []**pgx.Conn{&w.source, &w.target} {
		if *conn == nil || !(*conn).IsClosed() && (*conn).PgConn().TxStatus() == 'I' {
			continue
		}
		if !(*conn).IsClosed() {
			ctx, cancel := context.WithTimeout(context.Background(), rollbackTimeout)
			_, err := (*conn).PgConn().Exec(ctx, "ROLLBACK").ReadAll()
			cancel()
			if err == nil {
				continue
			}
		}
		snapshot.Close(*conn)
		*conn = nil
	}
}
