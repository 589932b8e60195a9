package ports

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/failpoint"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/replicate/extras/extension"
	"crossfade/replicate/extras/sequence"
	"crossfade/replicate/progress"
	"crossfade/schema/fingerprint"
	"crossfade/schema/plan"
	"crossfade/schema/restore"
)

// Lane is the one lane of the forward stream.
const Lane = 0

func states(in []cutover.Sequence) []sequence.State {
	return lists.Map(in, func(s cutover.Sequence) sequence.State {
		return sequence.State{Name: pg.Name{Schema: s.Schema, Name: s.Name}, Last: s.LastValue, Called: s.IsCalled}
	})
}

// RehearseDecision implements cutover.Target: the whole of the decision, rolled
// back. Statements go one by one, so that the one that fails is named.
func (t *Target) RehearseDecision(ctx context.Context, in cutover.DecisionInput) error {
	conn, err := pg.Connect(ctx, t.DSN, pg.WithName("rehearsal"), pg.WithKey(t.Key))
	if err != nil {
		return err
	}
	defer dbconn.CloseNow(conn) // which rolls back
	sql, err := t.Plan(ctx, conn)
	if err != nil {
		return err
	}
	err = func() error {
		if err := pg.Exec(ctx, conn, "BEGIN;"+journal.SetLocalLockTimeout(DecisionLockTimeout)); err != nil {
			return err
		}
		var pid int32
		if err := conn.QueryRow(ctx, `SELECT pg_catalog.pg_backend_pid()`).Scan(&pid); err != nil {
			return err
		}
		// The lane is closed for the rehearsal alone: its position does not matter.
		if _, err := progress.Close(ctx, conn, Lane, 0); err != nil {
			if pg.IsCode(err, pg.CodeLockNotAvailable) { // the applier has locked its row until its transaction ends
				return fmt.Errorf("the stream lags: it has been applying one transaction for more than %v: wait until crossfade status shows less lag (%w)", DecisionLockTimeout, err)
			}
			return err
		}
		return dbconn.NameHolder(ctx, t.Lock.Watch, pid, func() error {
			if err := t.setSequences(ctx, conn, in.Sequences); err != nil {
				return err
			}
			if err := restore.Run(ctx, conn, sql.Decide); err != nil {
				return err
			}
			return pg.Exec(ctx, conn, t.Opens+journal.OpenFence)
		})
	}()
	return committed("rehearse the decision", err)
}

// Decide implements cutover.Target: the one transaction that opens the target
// (C16), in the pre-lock's session where there is one.
func (t *Target) Decide(ctx context.Context, in cutover.DecisionInput) error {
	defer t.Lock.Release()
	err := t.Lock.use(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		sql, err := t.Plan(ctx, conn)
		if err != nil {
			return err
		}
		if err := t.Lock.namingHolder(ctx, func() error { return t.decideIn(ctx, conn, in, sql) }); err != nil {
			return err
		}
		failpoint.Here(cutover.PointBeforeDecisionCommit)
		err = commit(ctx, conn, "the decision's")
		failpoint.Here("cutover.after_decision_commit")
		return err
	})
	return committed("decide", err)
}

// commit ends a transaction; whose is for the error that there was no answer.
func commit(ctx context.Context, conn *pgx.Conn, whose string) error {
	_, err := conn.Exec(ctx, "COMMIT")
	if err == nil || pg.Code(err) != "" && !pg.ConnectionLost(err) {
		return err
	}
	return fmt.Errorf("%w: %w", cutover.ErrOutcomeUnknown, fmt.Errorf("%s commit got no answer: %w", whose, err))
}

// committed is what became of a transaction that was to do something.
func committed(what string, err error) error {
	if err == nil || errors.Is(err, cutover.ErrOutcomeUnknown) {
		return err
	}
	return portError(fmt.Errorf("%s: %w", what, err), false)
}

func (t *Target) decideIn(ctx context.Context, conn *pgx.Conn, in cutover.DecisionInput, sql *plan.DecisionSQL) error {
	begin := journal.SetLocalLockTimeout(DecisionLockTimeout) + unattended + "SET LOCAL synchronous_commit = on;"
	if err := pg.Exec(ctx, conn, begin); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, `INSERT INTO crossfade.decision (epoch, decision, nonce) VALUES ($1, 'commit', $2)`, in.Epoch, in.Nonce); err != nil {
		return err
	}
	if _, err := progress.Close(ctx, conn, Lane, t.Reached()); err != nil {
		return err
	}
	if err := t.setSequences(ctx, conn, in.Sequences); err != nil {
		return err
	}
	// One round trip for all that was rehearsed statement by statement.
	var b strings.Builder
	for _, s := range sql.Decide {
		b.WriteString(s.SQL + "\n;\n")
	}
	b.WriteString(t.Opens + journal.OpenFence)
	b.WriteString(journal.Opened(in.Epoch, string(in.Direction), in.Nonce))
	b.WriteString(journal.Marker(pg.ServerVersion(conn), pg.QuoteLiteral(in.Nonce)) + ";")
	return pg.Exec(ctx, conn, b.String())
}

// setSequences gives this side's sequences the states of the other one's. The target's become those
// of the source, backwards too, since an application may have set them back; on the way back each
// takes the value that is further, since the source has handed out its own.
func (t *Target) setSequences(ctx context.Context, conn *pgx.Conn, in []cutover.Sequence) error {
	if t.Direction == machine.Reverse {
		_, err := sequence.Set(ctx, conn, states(in))
		return err
	}
	return sequence.SetExactly(ctx, conn, states(in))
}

// OpensTarget is what the decision does on the target alone: the jobs that were active on the source
// become active here.
const OpensTarget = extension.ActivateJobs + "UPDATE crossfade.run SET phase = '" + string(journal.PhaseSwitched) + "' WHERE phase <> '" + string(journal.PhaseFinished) + "';"

// OpensSource is what the decision of a fallback does on the source alone: the jobs that rest since
// the switch run again.
const OpensSource = extension.WakeJobs

// TakeFingerprint reads a side's schema for the cutover. What a server prints of an expression
// counts only if both sides have the same major version. Check constraints that late names come
// with the decision, and are left out. So are extensions: the comparison of definitions covers
// them, and does not count one that only the target has as a difference. The holder of a lock that
// it waits for is found through watch.
func TakeFingerprint(ctx context.Context, l, watch *dbconn.Link, majors [2]int, late func() []string) (machine.Fingerprint, error) {
	opts := fingerprint.Options{Deferred: true, NoExtensions: true}
	if late != nil {
		opts.Checks = late()
	}
	var taken fingerprint.Fingerprint
	err := l.Do(ctx, func(ctx context.Context, conn *pgx.Conn) (err error) {
		return l.NameHolder(ctx, watch, func() (err error) {
			taken, err = fingerprint.Take(ctx, conn, opts)
			return err
		})
	})
	if err != nil {
		return machine.Fingerprint{}, portError(err, false)
	}
	printed := majors[0] == majors[1]
	var out machine.Fingerprint
	for _, o := range taken.Objects {
		text := o.Definition
		if printed {
			text += "\x00" + o.Printed
		}
		sum := sha256.Sum256([]byte(text))
		out.Objects = append(out.Objects, machine.Object{Name: o.Kind + " " + o.Name, Sum: hex.EncodeToString(sum[:])})
	}
	slices.SortFunc(out.Objects, func(a, b machine.Object) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Sum, b.Sum)) })
	h := sha256.New()
	for _, o := range out.Objects {
		h.Write([]byte(o.Name + "\x00" + o.Sum + "\x00"))
	}
	out.Sum = hex.EncodeToString(h.Sum(nil))
	return out, nil
}

// fingerprints keep the one of a side that was read last, while arming.
type fingerprints struct {
	armed atomic.Pointer[machine.Fingerprint]
}

// take reads it, unless there is one and the side is fenced.
func (k *fingerprints) take(ctx context.Context, fenced bool, l, watch *dbconn.Link, majors [2]int, late func() []string) (machine.Fingerprint, error) {
	if known := k.armed.Load(); known != nil && fenced {
		return *known, nil
	}
	f, err := TakeFingerprint(ctx, l, watch, majors, late)
	if err == nil {
		k.armed.Store(&f)
	}
	return f, err
}
