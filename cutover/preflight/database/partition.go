package database

import (
	"context"
	"fmt"

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
