package journal

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Sides of an Identity.
const (
	SideSource = "source"
	SideTarget = "target"
)

// Identity is a row of crossfade.identity: by what rows of a table are known to
// have changed in no other way than by changes that are followed.
type Identity struct {
	Side  string
	OID   uint32
	State string
}

// Definitions are what is kept of the source's at the moment of the first archive.
type Definitions struct {
	Archive       []byte
	Digest, Roles string
	Identities    []Identity
}

// KeepDefinitions keeps pg_dump's archive and what goes with it, with the phase PhaseDumped.
func KeepDefinitions(ctx context.Context, conn *pgx.Conn, d Definitions) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE crossfade.run SET archive = $1, archive_now = NULL, digest = $2, roles = $3, phase = $4`,
			d.Archive, d.Digest, d.Roles, string(PhaseDumped)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM crossfade.identity`); err != nil {
			return err
		}
		return saveIdentities(ctx, tx, d.Identities)
	})
	if err != nil {
		return fmt.Errorf("keep the archive of the schema: %w", err)
	}
	return nil
}

// KeepNewer keeps a newer archive of the source's schema, with the digest of the
// definitions that it has.
func KeepNewer(ctx context.Context, conn *pgx.Conn, archive []byte, digest string) error {
	if _, err := conn.Exec(ctx, `UPDATE crossfade.run SET archive_now = $1, digest = $2`, archive, digest); err != nil {
		return fmt.Errorf("keep the newer archive of the schema: %w", err)
	}
	return nil
}

// SaveIdentities keeps these in the place of those of the same objects.
func SaveIdentities(ctx context.Context, conn *pgx.Conn, list []Identity) error {
	if err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return saveIdentities(ctx, tx, list) }); err != nil {
		return fmt.Errorf("keep identities of columns: %w", err)
	}
	return nil
}

func saveIdentities(ctx context.Context, tx pgx.Tx, list []Identity) error {
	if len(list) == 0 {
		return nil
	}
	sides, oids, states := make([]string, len(list)), make([]uint32, len(list)), make([]string, len(list))
	for i, x := range list {
		sides[i], oids[i], states[i] = x.Side, x.OID, x.State
	}
	_, err := tx.Exec(ctx, `INSERT INTO crossfade.identity (side, relid, state)
		SELECT * FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::oid[]), pg_catalog.unnest($3::text[]))
		ON CONFLICT (side, relid) DO UPDATE SET state = EXCLUDED.state`, sides, oids, states)
	return err
}

// LoadIdentities reads those that are kept.
func LoadIdentities(ctx context.Context, conn *pgx.Conn) ([]Identity, error) {
	rows, _ := conn.Query(ctx, `SELECT side, relid, state FROM crossfade.identity`)
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Identity])
	if err != nil {
		return nil, fmt.Errorf("read kept identities of columns: %w", err)
	}
	return list, nil
}
