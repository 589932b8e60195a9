package ports

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/proxy"
	"crossfade/proxy/state"
	"crossfade/proxy/typemap"
)

// trafficPort is cutover.Traffic over the proxy.
type Traffic struct {
	Proxy *proxy.Proxy
	Pin   func(ctx context.Context) error // reads the source's settings of every role again
	// Closing is called when the gate is about to be closed.
	Closing func()
	// Open is called before applications reach the target.
	Open  func(ctx context.Context, epoch int64)
	Known func(ctx context.Context) error // returns when what logins to the target go by is known
}

// Stage implements cutover.Traffic.
func (t *Traffic) Stage(ctx context.Context, epoch int64, policy machine.StagePolicy) (cutover.StageReport, error) {
	if err := t.Pin(ctx); err != nil {
		return cutover.StageReport{}, err
	}
	if err := t.Proxy.Attempt(ctx, epoch, proxy.Unmovable(policy.Unmovable), policy.Wait); err != nil {
		return cutover.StageReport{}, err
	}
	r, err := t.Proxy.Stage(ctx, epoch)
	return stageReport(r), held(err)
}

func stageReport(r proxy.StageReport) cutover.StageReport {
	return cutover.StageReport{Sessions: r.Sessions, Disconnected: r.Disconnected, Unmovable: lists.Map(r.Unmovable, proxy.SessionNote.String)}
}

// held marks the error that may pass.
func held(err error) error {
	if _, ok := errors.AsType[*proxy.HeldError](err); ok {
		return marked{err, cutover.ErrHeld}
	}
	return err
}

// Pause implements cutover.Traffic.
func (t *Traffic) Pause(ctx context.Context, epoch int64, drain time.Duration) (sessions int, err error) {
	t.Closing()
	r, err := t.Proxy.Pause(ctx, epoch, drain)
	if _, ok := errors.AsType[*proxy.DrainTimeoutError](err); ok {
		err = fmt.Errorf("%w: %w", cutover.ErrDrainTimeout, err)
	}
	return r.Sessions, held(err)
}

// Restage implements cutover.Traffic.
func (t *Traffic) Restage(ctx context.Context, epoch int64) (cutover.StageReport, error) {
	r, err := t.Proxy.Restage(ctx, epoch)
	return stageReport(r), err
}

// Resume implements cutover.Traffic.
func (t *Traffic) Resume(ctx context.Context, epoch int64) (cutover.Waits, error) {
	if err := t.Proxy.Resume(ctx, epoch); err != nil {
		return cutover.Waits{}, err
	}
	return waits(t.Proxy.TakeHeld(ctx)), nil
}

// waits puts what the proxy measured into the cutover's terms.
func waits(h proxy.Held) cutover.Waits {
	ms := func(x float64) time.Duration { return time.Duration(x * float64(time.Millisecond)) }
	return cutover.Waits{Sessions: h.Sessions, P50: ms(h.P50), P99: ms(h.P99), Max: ms(h.Max)}
}

// Switch implements cutover.Traffic.
func (t *Traffic) Switch(ctx context.Context, epoch int64, to machine.Side) (cutover.SwitchReport, error) {
	if to == machine.SideTarget {
		if err := t.Known(ctx); err != nil {
			return cutover.SwitchReport{}, err
		}
		t.Open(ctx, epoch)
	}
	r, err := t.Proxy.Switch(ctx, epoch, string(to))
	return cutover.SwitchReport{Moved: r.Moved, Held: waits(r.Held)}, err
}

// InspectSessions implements cutover.Traffic.
func (t *Traffic) InspectSessions(ctx context.Context) (cutover.SessionsReport, error) {
	var r cutover.SessionsReport
	for _, s := range t.Proxy.Sessions(ctx, true) {
		r.Sessions++
		switch s.Verdict {
		case state.Red.String():
			r.Red = append(r.Red, s.String())
		case state.Hold.String():
			r.Holding = append(r.Holding, s.String())
		}
	}
	return r, nil
}

// Discard implements cutover.Traffic.
func (t *Traffic) Discard(ctx context.Context) error {
	t.Proxy.Discard(ctx)
	return nil
}

// Ended implements cutover.Traffic.
func (t *Traffic) Ended() (total int, latest []string) {
	total, notes := t.Proxy.Ended()
	return total, lists.Map(notes, proxy.SessionNote.String)
}

// TypeStore keeps the source's numbers of users' types on the target: those that
// clients know, for the time after the source is gone. Only one database is served,
// so its name is not kept. It implements proxy.TypeStore.
type TypeStore struct{ Target *dbconn.Link }

// LoadTypes implements proxy.TypeStore. After a finish there are none.
func (s *TypeStore) LoadTypes(ctx context.Context, _ string) (types []typemap.Type, err error) {
	err = s.Target.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		var there bool
		if err := conn.QueryRow(ctx, `SELECT pg_catalog.to_regclass('crossfade.type') IS NOT NULL`).Scan(&there); err != nil || !there {
			return err
		}
		rows, _ := conn.Query(ctx, `SELECT oid::bigint, nsp, name, kind, elem::bigint FROM crossfade.type`)
		var oid, elem int64
		var schema, name, kind string
		_, err = pgx.ForEachRow(rows, []any{&oid, &schema, &name, &kind, &elem}, func() error {
			types = append(types, typemap.Type{OID: uint32(oid), Schema: schema, Name: name, Kind: typemap.Kind(kind[0]), Elem: uint32(elem)})
			return nil
		})
		return err
	})
	return types, pg.Wrap(err, "read the kept numbers of types")
}

// KeepTypes implements proxy.TypeStore.
func (s *TypeStore) KeepTypes(ctx context.Context, _ string, types []typemap.Type) error {
	var oids, elems []int64
	var schemas, names, kinds []string
	for _, t := range types {
		oids, elems = append(oids, int64(t.OID)), append(elems, int64(t.Elem))
		schemas, names, kinds = append(schemas, t.Schema), append(names, t.Name), append(kinds, string(t.Kind))
	}
	err := s.Target.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `DELETE FROM crossfade.type`); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, `INSERT INTO crossfade.type (oid, nsp, name, kind, elem)
				SELECT o::oid, n, t, k, e::oid FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[]) AS x (o, n, t, k, e)`,
				oids, schemas, names, kinds, elems)
			return err
		})
	})
	return pg.Wrap(err, "keep the numbers of types")
}
