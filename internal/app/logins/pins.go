package logins

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	proxyask "crossfade/proxy/ask"
	"crossfade/proxy/state"
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
	list, err := proxyask.ReadPins(ctx, state.NewLink(h.Conn, nil, h.ParameterStatuses), dsn.User())
	if err != nil {
		return nil, fmt.Errorf("read settings of role %s at %s: %w", dsn.User(), dsn.Redacted(), err)
	}
	pins := Pins{}
	for _, p := range list {
		pins[p.Name] = p.Value
	}
	return pins, nil
}

// pinTimeout bounds the reading of one role's settings: a scan of the catalog, for names of custom
// settings, of a database with very many functions.
const pinTimeout = 30 * time.Second

// readRolePins works out the effective values for a role whose password is not known: those of the
// role that conn is logged in as, with the overrides of pg_db_role_setting exchanged. unknown are
// settings which that role overrides for itself and for which the catalog has nothing else.
func readRolePins(ctx context.Context, conn *pgx.Conn, role string) (pins Pins, unknown []string, err error) {
	rows, _ := conn.Query(ctx, `SELECT s.name, coalesce(o.value, CASE WHEN s.source IN ('user', 'database user') THEN NULL ELSE s.reset_val END)
		FROM pg_catalog.pg_settings s
		LEFT JOIN LATERAL (
			SELECT pg_catalog.substr(c.entry, pg_catalog.strpos(c.entry, '=') + 1) AS value
			FROM pg_catalog.pg_db_role_setting d, pg_catalog.unnest(d.setconfig) c (entry)
			WHERE pg_catalog.lower(pg_catalog.split_part(c.entry, '=', 1)) = pg_catalog.lower(s.name)
			  AND d.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
			  AND d.setrole IN (0, (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $2))
			ORDER BY d.setrole = 0, d.setdatabase = 0 LIMIT 1) o ON true
		WHERE s.name = ANY ($1) AND s.reset_val IS NOT NULL ORDER BY s.name`, state.Pinned, role)
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
		return nil, nil, fmt.Errorf("read settings of role %s: %w", role, err)
	}
	err = customPins(ctx, conn, role, pins)
	return pins, unknown, pg.Wrap(err, "read settings of role %s", role)
}

// customPins adds what ALTER ROLE and ALTER DATABASE set for the role that no list of
// settings shows: custom settings, and the role that it becomes, if it still may.
func customPins(ctx context.Context, conn *pgx.Conn, role string, pins Pins) error {
	rows, _ := conn.Query(ctx, `SELECT DISTINCT ON (1) pg_catalog.lower(pg_catalog.split_part(c.entry, '=', 1)), pg_catalog.substr(c.entry, pg_catalog.strpos(c.entry, '=') + 1)
		FROM pg_catalog.pg_db_role_setting d, pg_catalog.unnest(d.setconfig) c (entry)
		WHERE d.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
		  AND d.setrole IN (0, (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1))
		  AND (pg_catalog.strpos(pg_catalog.split_part(c.entry, '=', 1), '.') > 0 OR pg_catalog.split_part(c.entry, '=', 1) = 'role' AND EXISTS (
			SELECT FROM pg_catalog.pg_roles r, pg_catalog.pg_roles m
			WHERE r.rolname = pg_catalog.substr(c.entry, 6) AND m.rolname = $1 AND pg_catalog.pg_has_role(m.oid, r.oid, 'MEMBER')))
		ORDER BY 1, d.setrole = 0, d.setdatabase = 0`, role)
	var name, value string
	_, err := pgx.ForEachRow(rows, []any{&name, &value}, func() error {
		plain := !strings.ContainsFunc(name+value, func(r rune) bool { return r >= utf8.RuneSelf }) // start-up options have no encoding
		if _, known := pins[name]; !known && plain {
			pins[name] = value
		}
		return nil
	})
	return err
}

// taker asks the target which values of settings it takes, each once.
type taker struct {
	conn  *pgx.Conn
	known map[[2]string]bool       // by name and value
	role  func(name string) string // what a role of the source is called on the target
	names map[string]bool          // the settings that every role of the target may set; nil before they are read
}

// knows reports whether the target has a setting that every role may set; a custom one is
// everywhere.
func (t *taker) knows(ctx context.Context, name string) (bool, error) {
	if strings.Contains(name, ".") {
		return true, nil
	}
	if t.names == nil {
		list, err := pg.Rows(ctx, t.conn, pgx.RowTo[string], `SELECT name FROM pg_catalog.pg_settings WHERE context = 'user'`)
		if err != nil {
			return false, fmt.Errorf("ask the target for its settings: %w", err)
		}
		t.names = lists.Set(append(list, "role")) // which no list of settings shows
	}
	return t.names[name], nil
}

// acceptable drops the pins that the target does not take, and names them.
func (t *taker) acceptable(ctx context.Context, pins Pins) (Pins, []string, error) {
	kept := Pins{}
	var refused []string
	for name, value := range pins {
		known, err := t.knows(ctx, name)
		if err != nil {
			return nil, nil, err
		}
		if !known {
			continue
		}
		took, asked := t.known[[2]string{name, value}]
		if !asked {
			there := value
			if name == "role" { // kept unchanged: the proxy translates it when it is used
				there = t.role(value)
			}
			if took, err = takes(ctx, t.conn, name, there); err != nil {
				return nil, nil, err
			}
			t.known[[2]string{name, value}] = took
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
	cfg.ConnectTimeout = cmp.Or(cfg.ConnectTimeout, pg.ConnectTimeout)
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, pg.ConnectError(dsn, err)
	}
	return conn, nil
}

// savePins keeps a role's pins on the target, for the time after the source is gone.
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
	return pg.Wrap(err, "keep the settings of role %s", role)
}

// loadPins reads all kept pins, by role.
func loadPins(ctx context.Context, conn *pgx.Conn) (map[string]Pins, error) {
	rows, _ := conn.Query(ctx, `SELECT role, name, value FROM crossfade.pin`)
	all := map[string]Pins{}
	var role, name, value string
	_, err := pgx.ForEachRow(rows, []any{&role, &name, &value}, func() error {
		if all[role] == nil {
			all[role] = Pins{}
		}
		all[role][name] = value
		return nil
	})
	return all, pg.Wrap(err, "read the kept settings")
}
