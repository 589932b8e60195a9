package database

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
	"crossfade/schema/catalog"
)

// Partitions checks trees of partitions whose rows the target routes differently, since each server
// hashes or sorts their keys in its own way. Their rows are written through a partitioned table;
// trees for which that is impossible are named.
func Partitions(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	source, err := catalog.ReadTrees(ctx, p.Source)
	if err != nil || len(source.Relations) == 0 {
		return nil, err
	}
	var used []pg.Name
	for _, r := range source.Relations {
		for _, k := range r.PartitionKeys {
			if k.Collation.Name != "" {
				used = append(used, k.Collation)
			}
		}
	}
	hashes, orders, err := catalog.ReadOrders(ctx, p.Target, used)
	if err != nil {
		return nil, err
	}
	order := func(r *catalog.Relation, key int) string {
		if o, ok := orders[r.PartitionKeys[key].Collation]; ok {
			return o
		}
		return catalog.UnknownOrder
	}
	found, err := impossibleBounds(ctx, p, source, orders)
	if err != nil {
		return nil, err
	}
	told, routes := map[uint32]bool{}, source.Routes(hashes, order)
	for _, leaf := range source.Relations {
		route, ok := routes[leaf.OID]
		if !ok || told[route.Via.OID] || !p.Options.Scope.Takes(route.Via.OID) {
			continue
		}
		told[route.Via.OID] = true
		more, err := rerouted(ctx, p, source, route)
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	return found, nil
}

// rerouted says what to expect of a tree whose rows are put through a table, and what does not go.
func rerouted(ctx context.Context, p *inquiry.Pair, source *catalog.Database, route catalog.Route) ([]answer.Finding, error) {
	via := route.Via.Name()
	found := []answer.Finding{{
		Code: "partitions_rerouted", Severity: answer.Info, Object: via.Display(),
		Detail: fmt.Sprintf("%s: the rows of its partitions are copied and applied through it, and compared as one; TRUNCATE of one of its partitions by itself cannot be followed", route.Why),
		Remedy: "until the cutover TRUNCATE the whole table on the source, or DELETE from a partition",
	}}
	type index struct {
		Schema, Table, Name string
		Constraint          bool
	}
	var below []uint32
	for _, r := range source.Relations {
		for up := r; up != nil && up.Parent != 0; up = source.Relation(up.Parent) {
			if up.Parent == route.Via.OID {
				below = append(below, r.OID)
				if r.Kind == 'f' {
					found = append(found, answer.Finding{
						Code: "partition_foreign", Severity: answer.Blocker, Object: r.Name().Display(),
						Detail: fmt.Sprintf("is a foreign table below %s, whose rows the target may route to it: %s", via.Display(), route.Why),
						Remedy: fmt.Sprintf("ALTER TABLE %s DETACH PARTITION %s", source.Relation(r.Parent).Name(), r.Name()),
						On:     answer.Source, SQL: fmt.Sprintf("ALTER TABLE %s DETACH PARTITION %s", source.Relation(r.Parent).Name(), r.Name()),
					})
				}
				break
			}
		}
	}
	// What holds in one leaf only may be broken by rows that were in another one.
	alone, err := inquiry.List[index](ctx, p.Source, "unique indexes of partitions", `
		SELECT n.nspname::text, c.relname::text, x.relname::text, EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = i.indrelid AND k.conindid = i.indexrelid)
		FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE i.indrelid = ANY ($1) AND (i.indisunique OR i.indisexclusion) AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = i.indexrelid)
		ORDER BY 1, 2, 3`, below)
	if err != nil {
		return nil, err
	}
	for _, x := range alone {
		drop := "DROP INDEX " + pg.Name{Schema: x.Schema, Name: x.Name}.String()
		if x.Constraint {
			drop = fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %s", pg.Name{Schema: x.Schema, Name: x.Table}, pg.QuoteIdent(x.Name))
		}
		found = append(found, answer.Finding{
			Code: "partition_unique", Severity: answer.Blocker, Object: x.Schema + "." + x.Table,
			Detail: fmt.Sprintf("index %s keeps values unique in this partition only, and the target may put rows of others into it: %s", x.Name, route.Why),
			Remedy: fmt.Sprintf("make a unique index on %s, or on the source: %s", via, drop),
		})
	}
	return found, nil
}

// trial is a partitioned table that is made on the target, and rolled back, to see
// whether its partitions' bounds are possible there.
type trial struct {
	Columns, Key string
	Default      bool
	Schema, Free string // where a default partition would be, and a name that is free there
}

// impossibleBounds has the target judge the bounds of partitions by ranges of text
// that it sorts otherwise than the source.
func impossibleBounds(ctx context.Context, p *inquiry.Pair, source *catalog.Database, orders map[pg.Name]string) ([]answer.Finding, error) {
	var found []answer.Finding
	for _, r := range source.Relations {
		differs, missing := "", !p.Options.Scope.Takes(r.OID)
		for _, k := range r.PartitionKeys {
			there, ok := orders[k.Collation]
			missing = missing || k.Collation.Name != "" && !ok
			if r.Strategy == catalog.ByRange && k.Order != "" && (there != k.Order || there == catalog.UnknownOrder) {
				differs = fmt.Sprintf("texts sort by %s on the source and by %s on the target", k.Order, there)
			}
		}
		if differs == "" || missing { // not taken along, or a collation is not there, which is another finding
			continue
		}
		more, err := tryBounds(ctx, p, r, differs)
		if err != nil {
			return nil, fmt.Errorf("try the partitions of %s on the target: %w", r.Name().Display(), err)
		}
		found = append(found, more...)
	}
	return found, nil
}

func tryBounds(ctx context.Context, p *inquiry.Pair, r *catalog.Relation, differs string) ([]answer.Finding, error) {
	// Columns of types that the target may not have yet become text: the key then
	// cannot be made, and nothing is said.
	t, err := inquiry.One[trial](ctx, p.Source, "partition key", `
		SELECT string_agg(format('%I %s', a.attname, CASE WHEN a.atttypid < 16384 THEN format_type(a.atttypid, a.atttypmod) ELSE 'text' END)
			|| CASE WHEN l.oid IS NULL THEN '' ELSE format(' COLLATE %I.%I', ln.nspname, l.collname) END, ', ' ORDER BY a.attnum),
			pg_get_partkeydef($1), coalesce((SELECT q.partdefid FROM pg_partitioned_table q WHERE q.partrelid = $1), 0) <> 0,
			(SELECT n.nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1),
			(SELECT f.name FROM pg_class c, generate_series(0, 1000) i, LATERAL (SELECT left(c.relname, 50) || '_default' || CASE i WHEN 0 THEN '' ELSE '_' || i END) f (name)
				WHERE c.oid = $1 AND NOT EXISTS (SELECT FROM pg_class o WHERE o.relnamespace = c.relnamespace AND o.relname = f.name)
					AND NOT EXISTS (SELECT FROM pg_type y WHERE y.typnamespace = c.relnamespace AND y.typname = f.name) ORDER BY i LIMIT 1)
		FROM pg_attribute a LEFT JOIN pg_collation l ON l.oid = a.attcollation AND l.collname <> 'default' AND a.atttypid < 16384
		LEFT JOIN pg_namespace ln ON ln.oid = l.collnamespace
		WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped`, r.OID)
	if err != nil {
		return nil, err
	}
	type bound struct{ Schema, Name, Bound string }
	bounds, err := inquiry.List[bound](ctx, p.Source, "bounds of partitions", `
		SELECT n.nspname::text, c.relname::text, pg_get_expr(c.relpartbound, c.oid)
		FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE i.inhparent = $1 ORDER BY pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT', 1, 2`, r.OID)
	if err != nil {
		return nil, err
	}
	tx, err := p.Target.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	var said *pgconn.PgError
	if _, err := tx.Exec(ctx, "CREATE TEMP TABLE crossfade_trial ("+t.Columns+") PARTITION BY "+t.Key, pgx.QueryExecModeSimpleProtocol); err != nil {
		if errors.As(err, &said) && strings.HasPrefix(said.Code, "42") { // of types or functions that come with the schema, or without the right to make temporary tables
			return nil, nil
		}
		return nil, err
	}
	here, there, err := inquiry.Both(ctx, p, locale)
	if err != nil {
		return nil, err
	}
	alike := anotherDatabase(here, there) // as other findings ask for, so that one statement is for all of them
	var found []answer.Finding
	for i, b := range bounds {
		name := pg.Name{Schema: b.Schema, Name: b.Name}
		_, err := tx.Exec(ctx, fmt.Sprintf("SAVEPOINT trial; CREATE TEMP TABLE crossfade_trial_%d PARTITION OF crossfade_trial %s", i, b.Bound), pgx.QueryExecModeSimpleProtocol)
		switch {
		case err == nil:
		case errors.As(err, &said):
			found = append(found, answer.Finding{
				Code: "partition_bounds", Severity: answer.Blocker, Object: name.Display(),
				Detail: fmt.Sprintf("the target cannot have this partition %s: %s (%s)", b.Bound, said.Message, differs),
				Remedy: fmt.Sprintf("%s, or partition %s by the key with COLLATE \"C\"", alike, r.Name()),
			})
			if _, err := tx.Exec(ctx, "ROLLBACK TO SAVEPOINT trial"); err != nil {
				return nil, err
			}
		default:
			return nil, err
		}
	}
	if len(found) == 0 && !t.Default {
		sql := fmt.Sprintf("CREATE TABLE %s PARTITION OF %s DEFAULT", pg.Name{Schema: t.Schema, Name: t.Free}, r.Name())
		found = append(found, answer.Finding{
			Code: "partition_gap", Severity: answer.Warning, Object: r.Name().Display(),
			Detail: fmt.Sprintf("the target may have no partition for some rows, and the copy or the application's inserts stop there: %s", differs),
			Remedy: sql + " on the source, as the owner of the table",
			On:     answer.Source, SQL: sql,
		})
	}
	return found, nil
}
