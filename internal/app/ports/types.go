package ports

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/dbconn"
	"crossfade/proxy/typemap"
)

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
	if err != nil {
		return nil, fmt.Errorf("read the kept numbers of types: %w", err)
	}
	return types, nil
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
	if err != nil {
		return fmt.Errorf("keep the numbers of types: %w", err)
	}
	return nil
}
