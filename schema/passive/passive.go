// Package passive is written elsewhere.
package passive

import (
	"context"

	"github.com/jackc/pgx/v5"

	"crossfade/schema/plan"
)

type Config struct{ Late []string }

func Make(ctx context.Context, conn *pgx.Conn, cfg Config) error {
	_, err := conn.Exec(ctx, `DO $$ DECLARE x record; BEGIN
		FOR x IN SELECT conrelid::regclass::text t, conname FROM pg_constraint WHERE contype = 'f' AND conparentid = 0 LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', x.t, x.conname); END LOOP;
		FOR x IN SELECT tgrelid::regclass::text t, tgname FROM pg_trigger WHERE NOT tgisinternal AND tgname <> 'zz_crossfade_fence' LOOP EXECUTE format('ALTER TABLE %s DISABLE TRIGGER %I', x.t, x.tgname); END LOOP; END $$`)
	return err
}

func ReplicaMode(ctx context.Context, conn *pgx.Conn) (bool, error) { return false, nil }

func Restoration(ctx context.Context, conn *pgx.Conn) (plan.DecisionSQL, error) {
	return plan.DecisionSQL{}, nil
}

const Restored = "DELETE FROM crossfade.reaction WHERE part = 'decide';"

func Keep(ctx context.Context, conn *pgx.Conn, after []plan.Statement) error { return nil }
