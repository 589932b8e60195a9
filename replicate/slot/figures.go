package slot

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Figures are what a migration costs its source at one moment.
type Figures struct {
	At       time.Time
	Gone     bool   // the slot is not there
	Status   string // wal_status; "" where the source has none
	Retained int64  // bytes of WAL kept because of the slot
	Safe     int64  // bytes until the source itself gives the slot up; -1 for no limit
	Free     int64  // bytes free on the source's disk; -1 where that is not known
	XminAge  int64  // transactions since the oldest one whose dead rows are kept for us
	XminWarn int64  // age from which that is told; DefaultXminWarning if 0

	// The copy, while it runs: forecasts are made from it.
	Copying             bool
	CopyDone, CopyTotal int64 // bytes
	MaxRate             int64 // bytes a second; 0 for no bound
}

// Weigh reads what the slot and the sessions of this role that call themselves
// crossfade cost the source. At, Free and the copy's figures are the caller's.
func Weigh(ctx context.Context, conn *pgx.Conn, name string) (Figures, error) {
	s, ok, err := Get(ctx, conn, name)
	if err != nil {
		return Figures{}, err
	}
	f := Figures{Gone: !ok, Status: s.WALStatus, Retained: s.Retained, Safe: s.SafeWALSize, Free: -1}
	if ok && s.Lost() {
		f.Status = "lost"
	}
	if !ok {
		f.Safe = -1
	}
	err = conn.QueryRow(ctx, `SELECT pg_catalog.current_setting('autovacuum_freeze_max_age')::bigint, greatest(
			(SELECT coalesce(greatest(pg_catalog.age(xmin), pg_catalog.age(catalog_xmin)), 0) FROM pg_catalog.pg_replication_slots WHERE slot_name = $1),
			(SELECT coalesce(max(pg_catalog.age(backend_xmin)), 0) FROM pg_catalog.pg_stat_activity
				WHERE application_name LIKE 'crossfade%' AND usename = current_user AND datname = pg_catalog.current_database()))::bigint`, name).
		Scan(&f.XminWarn, &f.XminAge)
	if err != nil {
		return Figures{}, fmt.Errorf("read the age of the oldest transaction: %w", err)
	}
	return f, nil
}

// DataBytes is the size of the source's databases, as far as the role may see it.
func DataBytes(ctx context.Context, conn *pgx.Conn) (int64, error) {
	var n int64
	err := conn.QueryRow(ctx, `SELECT coalesce(sum(pg_catalog.pg_database_size(oid)), 0)::bigint FROM pg_catalog.pg_database
		WHERE pg_catalog.has_database_privilege(oid, 'CONNECT')`).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("read the size of the databases: %w", err)
	}
	return n, nil
}
