package server

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
)

// probe writes some pages to the target, in a transaction that is rolled back: there is no other
// way to learn how much space a server's disk has.
const probe = `CREATE TABLE crossfade_probe.room AS SELECT repeat('x', 1000) AS pages FROM generate_series(1, 100)`

// DiskSpace asks whether the target can take rows now, and whether a Neon project's limit
// leaves room for what the source has.
func DiskSpace(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	err := probeDiskSpace(ctx, p)
	switch {
	case pg.IsCode(err, pg.CodeDiskFull):
		return []answer.Finding{{
			Code: "target_full", Severity: answer.Blocker, Object: "target",
			Detail: fullDetail(err),
			Remedy: "raise the limit of the project, or make room on the server's disk",
		}}, nil
	case err != nil && !pg.IsCode(err, pg.CodeInsufficientPrivilege): // another check says so
		return nil, fmt.Errorf("try to write to the target: %w", err)
	}
	return sizeLimit(ctx, p)
}

func fullDetail(err error) string {
	return "takes no more rows: " + strings.TrimSuffix(strings.TrimPrefix(err.Error(), "ERROR: "), " (SQLSTATE "+pg.CodeDiskFull+")")
}

func probeDiskSpace(ctx context.Context, p *inquiry.Pair) error {
	tx, err := p.Target.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	for _, sql := range []string{`CREATE SCHEMA crossfade_probe`, probe} {
		if _, err := tx.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
	}
	return nil
}

// sizeLimit compares with neon.max_cluster_size, which a project's compute has.
func sizeLimit(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	target, err := inquiry.One[struct{ Limit, Used int64 }](ctx, p.Target, "size limit of the target", `
		SELECT CASE WHEN s !~ '^-|^0|^$' THEN pg_size_bytes(s) ELSE 0 END,
			coalesce((SELECT sum(pg_database_size(oid)) FROM pg_database WHERE s <> '' AND has_database_privilege(oid, 'CONNECT')), 0)::bigint
		FROM coalesce(current_setting('neon.max_cluster_size', true), '') s`)
	if err != nil || target.Limit == 0 {
		return nil, err
	}
	source, err := inquiry.One[struct{ Size int64 }](ctx, p.Source, "size of the source", `SELECT pg_database_size(current_database())`)
	if err != nil || target.Used+source.Size <= target.Limit {
		return nil, err
	}
	mb := func(n int64) int64 { return n >> 20 }
	return []answer.Finding{{
		Code: "project_size_limit", Severity: answer.Warning, Object: "target",
		Detail: fmt.Sprintf("the project may take %d MB and has %d MB; the source takes %d MB", mb(target.Limit), mb(target.Used), mb(source.Size)),
		Remedy: "raise the limit of the project, or the copy may stop at it",
	}}, nil
}
