package ports

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/failpoint"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/extras/extension"
	"crossfade/replicate/extras/sequence"
)

// Source is cutover.Source: the closing side of a direction.
type Source struct {
	Owner       *Owner
	Incarnation string
	LockTimeout time.Duration
	Control     *dbconn.Link // short statements
	Counting    *dbconn.Link // statements that may be asked at the same time, with a bound on lock waits
	Reading     *dbconn.Link // the same for the sequences
	Lock        *Prelock
	Register    func(ctx context.Context) error // makes our proxy's server connections known
	ServerPIDs  func() []int32
	RoundTrips  func(ctx context.Context) [2]time.Duration // to source and target
	// Cover refuses where a table of this side is not followed to the other one.
	Cover interface {
		Check(ctx context.Context, conn *pgx.Conn) error
	}
	Confirm func(ctx context.Context, fenced bool) error // asks the watchers
	Quiet   Quiet                                        // of the proxy
	Expect  func(epoch int64, nonce string) error        // announces the marker to the stream
	armed   fingerprints
	Fenced  atomic.Bool // the fence was asked for, and has not been opened again
	Version int         // server_version_num
	Majors  [2]int
	Late    func() []string // names of check constraints that come with the decision; nil for none
}

// Census implements cutover.Source.
func (s *Source) Census(ctx context.Context) (cutover.Census, error) {
	var c cutover.Census
	s.Fenced.Store(false)
	stops := portError(s.Confirm(ctx, false), false)
	c.RoundTrips = s.RoundTrips(ctx)
	err := s.Counting.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		tables, err := journal.Tables(ctx, conn)
		if err != nil {
			return err
		}
		if err := journal.AwaitPrepared(ctx, conn, preparedPatience); err != nil {
			return err
		}
		ours := s.ServerPIDs()
		writers, err := journal.Census(ctx, conn, ours)
		if err != nil {
			return err
		}
		c.Tables = len(tables)
		c.Bypass = lists.Map(writers, func(w journal.Writer) cutover.Writer {
			return cutover.Writer{PID: w.PID, User: w.User, Application: w.Application, Address: w.Address}
		})
		open, err := dbconn.OpenTransactions(ctx, conn, ours, mostTransactions)
		if err != nil {
			return err
		}
		c.Transactions = lists.Map(open, dbconn.Process.String)
		return journal.RefusePrepared(ctx, conn)
	})
	if stops != nil {
		err = stops
	}
	return c, err
}

// mostTransactions is how many open transactions a census names.
const mostTransactions = 5

// PrepareFence implements cutover.Source.
func (s *Source) PrepareFence(ctx context.Context) (tables int, err error) {
	err = s.Counting.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		bounded, cancel := context.WithTimeout(ctx, prepareTimeout)
		defer cancel()
		err := s.Counting.NameHolder(ctx, s.Lock.Watch, func() error {
			return journal.PrepareFence(bounded, conn, s.Quiet.Patience(s.Reading, s.LockTimeout), false)
		})
		if err != nil {
			return err
		}
		state, err := journal.ReadFence(ctx, conn)
		tables = state.Ready
		return err
	})
	return tables, portError(err, false)
}

// Tables lists what the fence covers, and refuses if a table is not covered or not followed.
func (s *Source) Tables(ctx context.Context) ([]pg.Name, error) {
	var tables []pg.Name
	err := s.Control.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		missing, err := journal.MissingFence(ctx, conn)
		if err != nil {
			return err
		}
		if len(missing) > 0 {
			return fmt.Errorf("table %s has no fence: it was made a moment ago; try again", missing[0].Display())
		}
		if err := s.Cover.Check(ctx, conn); err != nil {
			return err
		}
		tables, err = journal.Tables(ctx, conn)
		return err
	})
	return tables, err
}

// Prelock implements cutover.Source.
func (s *Source) Prelock(ctx context.Context, _ int64, lost func(string)) error {
	tables, err := s.Tables(ctx)
	if err != nil {
		return err
	}
	if err := s.Lock.take(ctx, tables, lost); err != nil {
		return portError(err, false)
	}
	return s.awaitWriters(ctx)
}

// awaitWriters waits for the transactions that write and bypass the proxy: the fence would wait for
// them with the gate closed. It takes as long as the fence would, with the gate open. Transactions
// that begin later are not waited for; writers whose transactions are short do no harm.
func (s *Source) awaitWriters(ctx context.Context) error {
	key := func(w dbconn.Writer) string { return fmt.Sprint(w.PID, " ", w.Began) }
	var met map[string]bool
	var left []dbconn.Writer
	var err error
	for range retry.PollFor(ctx, dbconn.LockPoll, fenceTries*s.LockTimeout) {
		if left, err = dbconn.Ask(ctx, s.Counting, func(ctx context.Context, conn *pgx.Conn) ([]dbconn.Writer, error) {
			return dbconn.WritersPast(ctx, conn, s.ServerPIDs())
		}); err != nil {
			return portError(err, false)
		}
		if met != nil {
			left = slices.DeleteFunc(left, func(w dbconn.Writer) bool { return !met[key(w)] })
		}
		if len(left) == 0 {
			return nil
		}
		met = lists.SetOf(left, key)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	w := left[0]
	return fmt.Errorf("%w: table %s is locked by %s: the fence would wait for it with the gate closed; let that transaction end, or end it on the source with SELECT pg_terminate_backend(%d)",
		cutover.ErrLockTimeout, w.Table, w, w.PID)
}

// ReleasePrelock implements cutover.Source.
func (s *Source) ReleasePrelock(context.Context) error {
	s.Lock.Release()
	return nil
}

// expelPoll is how often it is checked whether an expelled session has ended.
const expelPoll = 10 * time.Millisecond

// Expel implements cutover.Source.
func (s *Source) Expel(ctx context.Context, _ int64) (int, error) {
	if err := s.Register(ctx); err != nil {
		return 0, err
	}
	n := 0
	err := s.Control.Do(ctx, func(ctx context.Context, conn *pgx.Conn) (err error) {
		if n, err = journal.Expel(ctx, conn, s.Incarnation); err != nil || n == 0 {
			return err
		}
		var left []int32
		for range retry.Poll(ctx, expelPoll) {
			if left, err = journal.OtherIncarnations(ctx, conn, s.Incarnation); err != nil || len(left) == 0 {
				return err
			}
		}
		return fmt.Errorf("%d server connections of another incarnation do not end: %w", len(left), ctx.Err())
	})
	return n, err
}

// Unfence implements cutover.Source.
func (s *Source) Unfence(ctx context.Context, epoch int64) error {
	s.Fenced.Store(false)
	return portError(s.Control.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		err := Unfence(ctx, conn, epoch, s.Owner.get(), []string{string(machine.Fenced), string(machine.Draining), string(machine.Deciding)})
		if err == nil && !conn.PgConn().IsClosed() {
			_ = WakeJobs(ctx, conn) // the watcher of jobs tries again, and says why it has to
		}
		return err
	}), true)
}

// Unfence opens the fence and records the step idle in one transaction. It needs
// no lock on a table, so that no vacuum can keep the applications waiting.
func Unfence(ctx context.Context, conn *pgx.Conn, epoch int64, token string, from []string) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := journal.AdvanceFrom(ctx, tx, epoch, token, from, string(machine.Idle)); err != nil {
			return err
		}
		return pg.Wrap(pg.Exec(ctx, conn, "SET LOCAL synchronous_commit = on;"+journal.OpenFence), "open the fence")
	})
}

// Sequences implements cutover.Source.
func (s *Source) Sequences(ctx context.Context) ([]cutover.Sequence, error) {
	var states []sequence.State
	err := s.Reading.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return s.Reading.NameHolder(ctx, s.Lock.Watch, func() (err error) {
			states, err = sequence.Read(ctx, conn)
			return err
		})
	})
	return lists.Map(states, func(q sequence.State) cutover.Sequence {
		return cutover.Sequence{Schema: q.Name.Schema, Name: q.Name.Name, LastValue: q.Last, IsCalled: q.Called}
	}), portError(err, false)
}

// Fingerprint implements cutover.Source. A schema that the stream does not cover cannot be moved,
// however equal the fingerprints are: before the fence the census checks that, which is taken at
// the same time.
func (s *Source) Fingerprint(ctx context.Context) (machine.Fingerprint, error) {
	fenced := s.Fenced.Load()
	if fenced {
		if err := s.Confirm(ctx, true); err != nil { // without one, no definition was changed since
			return machine.Fingerprint{}, portError(err, false)
		}
	}
	return s.armed.take(ctx, fenced, s.Counting, s.Lock.Watch, s.Majors, s.Late)
}

// Fence implements cutover.Source: the fence and the marker in one transaction
// (C14). A lock that is not granted is asked for again a few times, each time
// for no longer than the source lock timeout.
func (s *Source) Fence(ctx context.Context, epoch int64, nonce string) (cutover.FenceReport, error) {
	s.Fenced.Store(true)
	report := cutover.FenceReport{}
	defer s.Lock.Release()
	tables, err := s.Tables(ctx)
	if err != nil {
		return report, err
	}
	report.Tables = len(tables)
	if err := s.Expect(epoch, nonce); err != nil {
		return report, err
	}
	for try := 1; ; try++ {
		err = s.Lock.use(ctx, func(ctx context.Context, conn *pgx.Conn) error {
			return s.fenceOnce(ctx, conn, tables, epoch, nonce, &report.LSN)
		})
		if !pg.IsCode(err, pg.CodeLockNotAvailable, pg.CodeDeadlockDetected) || try == fenceTries || ctx.Err() != nil {
			break
		}
	}
	return report, committed("close the fence", err)
}

func (s *Source) fenceOnce(ctx context.Context, conn *pgx.Conn, tables []pg.Name, epoch int64, nonce string, lsn *string) error {
	sql := journal.SetLocalLockTimeout(s.LockTimeout) + unattended + "SET LOCAL synchronous_commit = on;" + journal.CloseFence(tables) + extension.RestJobs
	err := s.Lock.namingHolder(ctx, func() error {
		return pg.Exec(ctx, conn, sql)
	})
	if err != nil {
		return err
	}
	if err := journal.RefusePrepared(ctx, conn); err != nil { // since the census
		return passingPrepared(err)
	}
	if err := journal.AdvanceFenced(ctx, conn, epoch, s.Owner.get(), string(machine.Pausing), string(machine.Fenced), nonce); err != nil {
		return err
	}
	if err := conn.QueryRow(ctx, journal.Marker(s.Version, "$1"), nonce).Scan(lsn); err != nil {
		return fmt.Errorf("emit the marker: %w", err)
	}
	failpoint.Here(cutover.PointBeforeFenceCommit)
	return commit(ctx, conn, "the fence's")
}

// passingPrepared marks the error about a prepared transaction of a moment ago: its application
// ends it, and another attempt will find it gone.
func passingPrepared(err error) error {
	if there, ok := errors.AsType[*journal.PreparedError](err); ok && there.Age < preparedPatience {
		return marked{err, cutover.ErrHeld}
	}
	return err
}
