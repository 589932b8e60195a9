package server

import (
	"context"
	"fmt"
	"time"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
)

// momentAgo is how old a prepared transaction may be to count as one that its application is
// about to end: what comes later waits for it. Where LongTransaction is less, that counts.
const momentAgo = 5 * time.Second

// PreparedTransactions names those of the source that a slot, or a pause, would wait for, or that a
// copy leaves out.
func PreparedTransactions(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	type prepared struct {
		GID, Database string
		Age           float64 // seconds
	}
	left, err := inquiry.List[prepared](ctx, p.Source, "prepared transactions", `
		SELECT gid, database::text, extract(epoch FROM clock_timestamp() - prepared)::float8 FROM pg_prepared_xacts ORDER BY prepared`)
	if err != nil {
		return nil, err
	}
	here := p.Source.Config().Database
	var found []answer.Finding
	for _, x := range left {
		gid := pg.QuoteLiteral(x.GID)
		severity, detail := answer.Blocker, "keeps the slot from being made"
		switch {
		case p.Options.Mode == inquiry.Copy && x.Database != here:
			continue // neither its rows nor its locks are of what is copied
		case p.Options.Mode == inquiry.Copy:
			severity, detail = answer.Warning, "is not in the copy, since it has not ended"
		case x.Database == here:
			detail += ", and holds its locks through a pause"
		}
		if age := time.Duration(x.Age * float64(time.Second)); severity == answer.Blocker && age < min(momentAgo, p.Options.LongTransaction) {
			severity, detail = answer.Warning, detail+"; it is of a moment ago, and will be waited for"
		}
		found = append(found, answer.Finding{
			Code: "prepared_transaction", Severity: severity, Object: x.GID,
			Detail: fmt.Sprintf("prepared %s ago in database %s; it %s", seconds(int64(x.Age)), x.Database, detail),
			Remedy: fmt.Sprintf("COMMIT PREPARED %s or ROLLBACK PREPARED %s, in database %s of the source", gid, gid, x.Database),
		})
	}
	return found, nil
}

// LongTransactions checks every database of the cluster: a slot is created only after all
// transactions have ended that were open and have a number, which they get with their first change.
// Transactions of other databases without a number do not matter. Statements are not shown, since
// they may hold secrets.
func LongTransactions(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	type transaction struct {
		PID                   int32
		User, Database, State string
		Age                   int64 // seconds
		Here, Changed         bool
	}
	open, err := inquiry.List[transaction](ctx, p.Source, "open transactions", `
		SELECT pid, coalesce(usename, '')::text, coalesce(datname, '')::text, coalesce(state, ''),
			extract(epoch FROM clock_timestamp() - xact_start)::bigint, datname = current_database(), backend_xid IS NOT NULL
		FROM pg_stat_activity
		WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND application_name NOT LIKE 'crossfade%'
			AND (datname = current_database() OR backend_xid IS NOT NULL)
			AND xact_start < clock_timestamp() - $1::float8 * interval '1 second'
		ORDER BY xact_start`, p.Options.LongTransaction.Seconds())
	return lists.Map(open, func(x transaction) answer.Finding {
		why := "the slot waits for it"
		switch {
		case !x.Changed:
			why = "it has changed nothing yet, so that the slot does not wait for it; a pause would, if it came through the proxy"
		case x.Here:
			why += ", and so would a pause"
		}
		return answer.Finding{
			Code: "long_transaction", Severity: answer.Warning, Object: fmt.Sprintf("pid %d", x.PID),
			Detail: fmt.Sprintf("a transaction of %s in database %s is open for %s (%s); %s",
				x.User, x.Database, seconds(x.Age), x.State, why),
			Remedy: fmt.Sprintf("let it end, or end it on the source: SELECT pg_terminate_backend(%d)", x.PID),
		}
	}), err
}

// OldSnapshots checks the setting that makes the source break snapshots that are held for a long
// time.
func OldSnapshots(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	limit, err := inquiry.Setting(ctx, p.Source, "old_snapshot_threshold")
	if err != nil || limit == "" || limit == "-1" {
		return nil, err
	}
	return []answer.Finding{{
		Code: "old_snapshot_threshold", Severity: answer.Warning, Object: "old_snapshot_threshold",
		Detail: fmt.Sprintf("the source may break a snapshot that is older than %s: a copy that takes longer would fail", limit),
		Remedy: "ALTER SYSTEM SET old_snapshot_threshold = -1 on the source, for the time of the copy, then restart it",
		On:     answer.Source, SQL: "ALTER SYSTEM SET old_snapshot_threshold = -1",
	}}, nil
}

func seconds(s int64) string { return (time.Duration(s) * time.Second).String() }
