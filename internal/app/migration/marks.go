package migration

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
	"crossfade/replicate/extras/extension"
	"crossfade/replicate/extras/largeobject"
	"crossfade/replicate/snapshot"
)

// measure asks the source for the state of something: under the copy's snapshot or, if that is
// gone, now, before the copy, so that what is written meanwhile counts as written since.
func (m *Extras) measure(ctx context.Context, held *snapshot.Holder, take func(context.Context, *pgx.Conn) (string, error)) (string, error) {
	source, err := m.task.ConnectSource(ctx)
	if err != nil {
		return "", err
	}
	defer dbconn.CloseNow(source)
	if held != nil {
		if err := held.Begin(ctx, source, m.task.lockTimeout); err != nil {
			return "", err
		}
	}
	return take(ctx, source)
}

// withTarget runs f with a session at the target.
func (m *Extras) withTarget(ctx context.Context, f func(*pgx.Conn) error) error {
	target, err := m.task.ConnectTarget(ctx)
	if err != nil {
		return err
	}
	defer dbconn.CloseNow(target)
	return f(target)
}

// markLargeObjects records the state of the large objects that are about to be copied. What an
// earlier attempt has copied is from an earlier moment, so its mark stays.
func (m *Extras) markLargeObjects(ctx context.Context, held *snapshot.Holder) error {
	if m.task.oneShot() {
		return nil
	}
	return m.withTarget(ctx, func(target *pgx.Conn) error {
		kept, err := journal.LoadMark(ctx, target, watch.MarkLargeObjects)
		if err != nil || kept != "" {
			return err
		}
		mark, err := m.measure(ctx, held, func(ctx context.Context, conn *pgx.Conn) (string, error) {
			taken, err := largeobject.TakeMeasure(ctx, conn)
			return taken.Encode(), err
		})
		if err != nil {
			return err
		}
		return journal.SaveMark(ctx, target, watch.MarkLargeObjects, mark)
	})
}

// markedExtensionRows copies the users' rows in tables of extensions by copying, and keeps their
// digest, which is of the same moment or of one before.
func (m *Extras) markedExtensionRows(ctx context.Context, held *snapshot.Holder, copying func() error) error {
	if m.task.oneShot() {
		return copying()
	}
	mark, err := m.measure(ctx, held, extension.Digest)
	if err == nil {
		err = copying()
	}
	if err != nil {
		return err
	}
	return m.withTarget(ctx, func(target *pgx.Conn) error { return journal.SaveMark(ctx, target, watch.MarkExtensionRows, mark) })
}

// FindExtensionRows copies the users' rows in tables of extensions again where they have changed:
// no stream carries them, but they are few. Under the fence the applications cannot write, so what
// is copied then is final. The scan's limit bounds the scan and, for a cutover, the copy too.
func (m *Extras) FindExtensionRows(ctx context.Context, source, target *pgx.Conn, s watch.Scan) ([]watch.Notice, error) {
	was, err := journal.LoadMark(ctx, target, watch.MarkExtensionRows)
	if err != nil || was == "" {
		return nil, err
	}
	const rows = "rows that users keep in tables of extensions"
	bounded, cancel := context.WithTimeout(ctx, s.Limit)
	defer cancel()
	late := func() bool { return bounded.Err() != nil && ctx.Err() == nil }
	begin := time.Now()
	is, err := extension.Digest(bounded, source)
	took := time.Since(begin)
	switch {
	case err != nil && late() && s.Armed:
		return s.Unseen("extension_rows_unseen", rows, "whether they are as they were copied"), nil
	case err != nil && late():
		return []watch.Notice{{Warns: true, Blocker: control.Blocker{Code: "extension_rows_unseen",
			Detail: fmt.Sprintf("%s take more than %v to be read, so that they are not compared for the status; a cutover reads them, while it is armed and in the pause", rows, s.Limit),
			Remedy: "remove those that nothing uses"}}}, nil
	case err != nil:
		return nil, err
	case is == was:
		return s.Fits("extension_rows_unseen", rows, took), nil
	}
	copying := ctx // for the status it has the time of the question
	if s.Armed {
		copying = bounded
	}
	if err := m.extensionRows(copying, nil); err != nil {
		if late() && s.Armed {
			return s.Unseen("extension_rows_unseen", rows, "whether they are on the target as they are by now"), nil
		}
		if watch.PassesByItself(copying, err) {
			return nil, err
		}
		return []watch.Notice{{Blocker: control.Blocker{Code: "extension_rows_changed", Detail: rows + " were written since they were copied, and could not be copied again: " + err.Error(),
			Remedy: "remove the cause that is named; crossfade run tries again by itself"}}}, nil
	}
	return s.Fits("extension_rows_unseen", rows, took), nil
}
