package ports

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/replicate/extras/extension"
)

// WakeJobs lets the source's jobs run again where an attempt has had them rest and its fence is
// open again. The lock keeps the next attempt's fence from being closed meanwhile.
func WakeJobs(ctx context.Context, source *pgx.Conn) error {
	n, err := extension.Resting(ctx, source)
	if err != nil || n == 0 {
		return err
	}
	return pgx.BeginFunc(ctx, source, func(tx pgx.Tx) error {
		if err := pg.Exec(ctx, source, journal.SetLocalLockTimeout(wakeTimeout)+"LOCK TABLE crossfade.job IN SHARE ROW EXCLUSIVE MODE"); err != nil {
			return err
		}
		if shut, err := journal.FenceShut(ctx, source); err != nil || shut {
			return err
		}
		return pg.Exec(ctx, source, extension.WakeJobs)
	})
}

// EndJobsHolder is what is done about a session that keeps jobs from being changed.
func EndJobsHolder(ctx context.Context, source *pgx.Conn) string {
	const end = "end the session that holds rows of cron.job"
	if pid, who, ok := holdsJobs(ctx, source); ok {
		return fmt.Sprintf("%s (%s): on the source: SELECT pg_catalog.pg_terminate_backend(%d)", end, who, pid)
	}
	return end
}

// EndRest lets the source's jobs run again, or says that they rest for good.
func EndRest(ctx context.Context, source *pgx.Conn, decided bool, tell func(string)) error {
	n, err := extension.Resting(ctx, source)
	switch {
	case err != nil:
		return fmt.Errorf("look for jobs of pg_cron that rest: %w", err)
	case n == 0:
		return nil
	case decided:
		tell(fmt.Sprintf("source: the list of %d jobs of pg_cron that rest; they stay inactive", n))
		return nil
	}
	err = pgx.BeginFunc(ctx, source, func(pgx.Tx) error {
		return pg.Exec(ctx, source, journal.SetLocalLockTimeout(DecisionLockTimeout)+extension.WakeJobs)
	})
	if err != nil {
		return fmt.Errorf("let the jobs of pg_cron run again: %w; %s; then run this again", err, EndJobsHolder(ctx, source))
	}
	return nil
}

// holdsJobs finds a session that keeps rows of cron.job from being written.
func holdsJobs(ctx context.Context, source *pgx.Conn) (pid int32, who string, ok bool) {
	err := source.QueryRow(ctx, `SELECT a.pid, pg_catalog.concat_ws(' ', 'role', a.usename, nullif(a.application_name, ''))
		FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
		WHERE l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
			AND n.nspname = 'cron' AND c.relname = 'job' AND l.granted AND l.mode <> 'AccessShareLock' AND l.pid <> pg_catalog.pg_backend_pid()
		ORDER BY a.xact_start LIMIT 1`).Scan(&pid, &who)
	return pid, who, err == nil
}
