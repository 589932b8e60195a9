package daemon

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/pg"
	"crossfade/proxy/session"
	"crossfade/proxy/wire"
)

// Pins are settings of one role, by name: the source's effective value of each
// setting that changes results, whatever its origin (C3).
type Pins map[string]string

// readPins reads the source's effective values for the role that dsn logs in
// as, in a session that is like an application's: without our own settings.
func readPins(ctx context.Context, dsn pg.DSN) (Pins, error) {
	conn, err := plainConnect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	if err := conn.PgConn().SyncConn(ctx); err != nil {
		_ = conn.Close(ctx)
		return nil, fmt.Errorf("read settings of role %s at %s: %w", dsn.User(), dsn.Redacted(), err)
	}
	h, err := conn.PgConn().Hijack()
	if err != nil {
		return nil, fmt.Errorf("read settings of role %s at %s: %w", dsn.User(), dsn.Redacted(), err)
	}
	defer func() {
		_, _ = h.Conn.Write(wire.AppendTerminate(nil))
		_ = h.Conn.Close()
	}()
	ctx, cancel := context.WithTimeout(ctx, pinTimeout)
	defer cancel()
	list, err := session.NewLink(h.Conn, nil, h.ParameterStatuses).ReadPins(ctx, dsn.User())
	if err != nil {
		return nil, fmt.Errorf("read settings of role %s at %s: %w", dsn.User(), dsn.Redacted(), err)
	}
	pins := Pins{}
	for _, p := range list {
		pins[p.Name] = p.Value
	}
	return pins, nil
}

// pinTimeout bounds the look at one role's settings: a scan of the catalog, for names
// of custom settings, of a database with very many functions.
const pinTimeout = 30 * time.Second

// readRolePins works out the effective values for a role whose password is not
// known: those of the role that dsn logs in as, with the overrides of pg_db_role_setting
// exchanged. unknown are settings which that role overrides for itself and for which
// the catalog has nothing else.
func readRolePins(ctx context.Context, dsn pg.DSN, role string) (pins Pins, unknown []string, err error) {
	conn, err := plainConnect(ctx, dsn)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, `SELECT s.name, coalesce(o.value, CASE WHEN s.source IN ('user', 'database user') THEN NULL ELSE s.reset_val END)
		FROM pg_catalog.pg_settings s
		LEFT JOIN LATERAL (
			SELECT pg_catalog.substr(c.entry, pg_catalog.strpos(c.entry, '=') + 1) AS value
			FROM pg_catalog.pg_db_role_setting d, pg_catalog.unnest(d.setconfig) c (entry)
			WHERE pg_catalog.lower(pg_catalog.split_part(c.entry, '=', 1)) = pg_catalog.lower(s.name)
			  AND d.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
			  AND d.setrole IN (0, (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $2))
			ORDER BY d.setrole = 0, d.setdatabase = 0 LIMIT 1) o ON true
		WHERE s.name = ANY ($1) AND s.reset_val IS NOT NULL ORDER BY s.name`, session.Pinned, role)
	if err != nil {
		return nil, nil, fmt.Errorf("read settings of role %s at %s: %w", role, dsn.Redacted(), err)
	}
	pins = Pins{}
	var name string
	var value *string
	if _, err := pgx.ForEachRow(rows, []any{&name, &value}, func() error {
		if value == nil {
			unknown = append(unknown, name)
		} else {
			pins[name] = *value
		}
		return nil
	}); err != nil {
		return nil, nil, fmt.Errorf("read settings of role %s at %s: %w", role, dsn.Redacted(), err)
	}
	return pins, unknown, nil
}

// acceptable drops the pins that the target does not take, and names them.
func acceptable(ctx context.Context, target pg.DSN, pins Pins) (Pins, []string, error) {
	conn, err := plainConnect(ctx, target)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = conn.Close(ctx) }()
	kept := Pins{}
	var refused []string
	for name, value := range pins {
		var known bool // a custom setting is, everywhere
		if err := conn.QueryRow(ctx, `SELECT $1 LIKE '%.%' OR EXISTS (SELECT FROM pg_catalog.pg_settings WHERE name = $1 AND context = 'user')`, name).Scan(&known); err != nil {
			return nil, nil, fmt.Errorf("ask the target for setting %s: %w", name, err)
		}
		if !known {
			continue
		}
		took, err := takes(ctx, conn, name, value)
		if err != nil {
			return nil, nil, err
		}
		if !took {
			refused = append(refused, name)
			continue
		}
		kept[name] = value
	}
	slices.Sort(refused)
	return kept, refused, nil
}

// takes reports whether the server accepts the setting. It is undone at once,
// since a short timeout would end the session that asks.
func takes(ctx context.Context, conn *pgx.Conn, name, value string) (bool, error) {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return false, fmt.Errorf("try setting %s on the target: %w", name, err)
	}
	_, err = tx.Exec(ctx, `SELECT pg_catalog.set_config($1, $2, true)`, name, value)
	if end := tx.Rollback(ctx); end != nil {
		return false, fmt.Errorf("try setting %s on the target: %w", name, end)
	}
	if err != nil && pg.Code(err) == "" {
		return false, fmt.Errorf("try setting %s on the target: %w", name, err)
	}
	return err == nil, nil
}

// plainConnect opens a session without the settings of ours.
func plainConnect(ctx context.Context, dsn pg.DSN) (*pgx.Conn, error) {
	cfg := dsn.Config()
	cfg.RuntimeParams = map[string]string{"application_name": "crossfade settings"}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = pg.ConnectTimeout
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, pg.ConnectError(dsn, err)
	}
	return conn, nil
}

// savePins keeps a role's pins on the target, for the time after the source is
// gone.
func savePins(ctx context.Context, conn *pgx.Conn, role string, pins Pins) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM crossfade.pin WHERE role = $1`, role); err != nil {
			return err
		}
		for name, value := range pins {
			if _, err := tx.Exec(ctx, `INSERT INTO crossfade.pin (role, name, value) VALUES ($1, $2, $3)`, role, name, value); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keep the settings of role %s: %w", role, err)
	}
	return nil
}

// loadPins reads all kept pins, by role.
func loadPins(ctx context.Context, conn *pgx.Conn) (map[string]Pins, error) {
	rows, err := conn.Query(ctx, `SELECT role, name, value FROM crossfade.pin`)
	if err != nil {
		return nil, fmt.Errorf("read the kept settings: %w", err)
	}
	all := map[string]Pins{}
	var role, name, value string
	_, err = pgx.ForEachRow(rows, []any{&role, &name, &value}, func() error {
		if all[role] == nil {
			all[role] = Pins{}
		}
		all[role][name] = value
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the kept settings: %w", err)
	}
	return all, nil
}
