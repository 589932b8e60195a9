package restore

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/internal/base/pg"
	"crossfade/schema/catalog"
	"crossfade/schema/finding"
	"crossfade/schema/plan"
)

// Run executes statements on conn one by one, in the caller's transaction where
// one is open. It is what a decision, or the step after pre-data, calls.
func Run(ctx context.Context, conn *pgx.Conn, statements []plan.Statement) error {
	for _, s := range statements {
		if err := pg.Exec(ctx, conn, s.SQL); err != nil {
			return failed(s, err)
		}
	}
	return nil
}

// RefreshMatViews fills the materialised views that are populated on the
// source, those that others read first. It tries all of them and returns what the target
// has refused; the error is what kept it from going on. It may be called again, but not where
// applications read: a REFRESH keeps readers waiting for as long as it takes.
func RefreshMatViews(ctx context.Context, conn *pgx.Conn, views []catalog.MatView, path string) (refused []*Error, err error) {
	for _, v := range views {
		if !v.Populated {
			continue
		}
		err := FillMatView(ctx, conn, v, path)
		var one *Error
		switch {
		case err == nil:
		case conn.IsClosed() || ctx.Err() != nil || !errors.As(err, &one) || !RefusedForGood(err):
			return refused, err
		default:
			refused = append(refused, one)
		}
	}
	return refused, nil
}

// FillMatView fills a materialised view and gives the planner its statistics, or empties
// it where it is not populated on the source. Its query is evaluated under path, a search_path as
// SET takes it, "" for none.
func FillMatView(ctx context.Context, conn *pgx.Conn, v catalog.MatView, path string) error {
	s := plan.Statement{Path: path, Kind: "MATERIALIZED VIEW DATA", Schema: v.Schema, Name: v.Rel, SQL: "REFRESH MATERIALIZED VIEW " + v.Name().String()}
	if v.Populated {
		s.SQL += ";\nANALYZE " + v.Name().String()
	} else {
		s.SQL += " WITH NO DATA"
	}
	if err := runPatiently(ctx, conn, s, AfterConfig{}); err != nil {
		return failed(s, err)
	}
	return nil
}

// failed makes an error that names the statement's object.
func failed(s plan.Statement, err error) *Error {
	refused := &pgconn.PgError{Message: err.Error()}
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok {
		refused = pe
	}
	return &Error{Err: err, Finding: finding.Finding{ID: s.ID, Kind: s.Kind, Schema: s.Schema, Name: s.Name,
		Message: refused.Message, SQLSTATE: refused.Code}, Statement: s}
}
