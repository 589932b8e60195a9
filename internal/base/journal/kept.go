package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"crossfade/internal/base/pg"
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
	return pg.Wrap(err, "keep the archive of the schema")
}

// KeepNewer keeps a newer archive of the source's schema, with the digest of the
// definitions that it has.
func KeepNewer(ctx context.Context, conn *pgx.Conn, archive []byte, digest string) error {
	_, err := conn.Exec(ctx, `UPDATE crossfade.run SET archive_now = $1, digest = $2`, archive, digest)
	return pg.Wrap(err, "keep the newer archive of the schema")
}

// SaveIdentities keeps these in the place of those of the same objects.
func SaveIdentities(ctx context.Context, conn *pgx.Conn, list []Identity) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return saveIdentities(ctx, tx, list) })
	return pg.Wrap(err, "keep identities of columns")
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
	list, err := pg.Rows(ctx, conn, pgx.RowToStructByPos[Identity], `SELECT side, relid, state FROM crossfade.identity`)
	return list, pg.Wrap(err, "read kept identities of columns")
}

// Role is what the source has on one of its roles for logins. It is kept on the
// target, for the time after the source is gone.
type Role struct {
	Name     string
	CanLogin bool
	// Connect says that it may connect to the database that is moved.
	Connect bool
	// ValidUntil is when the password's time is over; zero means never.
	ValidUntil time.Time
	Secret     string // pg_authid.rolpassword, "" where there is none or it may not be read
}

// Format keeps the secret out of logs and error texts.
func (r Role) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "role %q", r.Name) }

// ReadRoles reads the roles of the source. readable says whether their secrets could be read: a
// superuser may, and a role that was granted it.
func ReadRoles(ctx context.Context, conn *pgx.Conn) (roles []Role, readable bool, err error) {
	err = conn.QueryRow(ctx, `SELECT pg_catalog.has_column_privilege('pg_catalog.pg_authid', 'rolpassword', 'SELECT')
		AND pg_catalog.has_column_privilege('pg_catalog.pg_authid', 'oid', 'SELECT')`).Scan(&readable)
	if err == nil && readable {
		roles, err = queryRoles(ctx, conn, `SELECT r.rolname::text, r.rolcanlogin, pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'CONNECT'), r.rolvaliduntil, coalesce(a.rolpassword, '')
			FROM pg_catalog.pg_roles r JOIN pg_catalog.pg_authid a ON a.oid = r.oid`)
		if pg.IsCode(err, pg.CodeInsufficientPrivilege) { // a service that hides it in ways of its own
			readable, err = false, nil
		}
	}
	if err == nil && !readable {
		roles, err = queryRoles(ctx, conn, `SELECT r.rolname::text, r.rolcanlogin, pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'CONNECT'), r.rolvaliduntil, '' FROM pg_catalog.pg_roles r`)
	}
	return roles, readable, pg.Wrap(err, "read the roles of the source")
}

// SaveRoles keeps these roles on the target, and no others.
func SaveRoles(ctx context.Context, conn *pgx.Conn, roles []Role) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM crossfade.role`); err != nil {
			return err
		}
		names, can, connect, until, secrets := make([]string, len(roles)), make([]bool, len(roles)), make([]bool, len(roles)), make([]*time.Time, len(roles)), make([]string, len(roles))
		for i, r := range roles {
			names[i], can[i], connect[i], secrets[i] = r.Name, r.CanLogin, r.Connect, r.Secret
			if !r.ValidUntil.IsZero() {
				until[i] = &r.ValidUntil
			}
		}
		_, err := tx.Exec(ctx, `INSERT INTO crossfade.role (name, can_login, can_connect, valid_until, secret)
			SELECT * FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::boolean[]), pg_catalog.unnest($3::boolean[]), pg_catalog.unnest($4::timestamptz[]), pg_catalog.unnest($5::text[]))`, names, can, connect, until, secrets)
		return err
	})
	return pg.Wrap(err, "keep the roles of the source")
}

// LoadRoles reads what SaveRoles kept.
func LoadRoles(ctx context.Context, conn *pgx.Conn) ([]Role, error) {
	roles, err := queryRoles(ctx, conn, `SELECT name, can_login, can_connect, valid_until, secret FROM crossfade.role`)
	return roles, pg.Wrap(err, "read the kept roles")
}

func queryRoles(ctx context.Context, conn *pgx.Conn, sql string) ([]Role, error) {
	return pg.Rows(ctx, conn, func(row pgx.CollectableRow) (r Role, err error) {
		var until pgtype.Timestamptz
		err = row.Scan(&r.Name, &r.CanLogin, &r.Connect, &until, &r.Secret)
		switch {
		case !until.Valid || until.InfinityModifier == pgtype.Infinity:
		case until.InfinityModifier == pgtype.NegativeInfinity:
			r.ValidUntil = time.Unix(0, 0)
		default:
			r.ValidUntil = until.Time
		}
		return r, err
	}, sql+` ORDER BY 1`)
}

// PublishedTable is how the source's publication had one table when the slot was made.
type PublishedTable struct {
	OID      uint32
	Table    pg.Name
	Columns  []string // that are published, in the order of the table
	Row      string   // names the catalog's row of it and that row's version
	TakenOut string   // why we took it out of the publication since; "" where we did not
}

// Published is the publication as it was when the slot was made.
type Published struct {
	Row    string // names the catalog's row of the publication and that row's version
	Tables []PublishedTable
}

// SetPublished records the publication on the target, in place of what an earlier slot
// was made with.
func SetPublished(ctx context.Context, conn *pgx.Conn, p Published) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE crossfade.run SET publication = $1`, p.Row); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM crossfade.published`); err != nil {
			return err
		}
		_, err := tx.CopyFrom(ctx, pgx.Identifier{Schema, "published"}, []string{"relid", "nsp", "rel", "columns", "entry"},
			pgx.CopyFromSlice(len(p.Tables), func(i int) ([]any, error) {
				t := p.Tables[i]
				return []any{t.OID, t.Table.Schema, t.Table.Name, append([]string{}, t.Columns...), t.Row}, nil
			}))
		return err
	})
	return pg.Wrap(err, "record the publication")
}

// LoadPublished reads what SetPublished and SetTakenOut recorded, in the order of the
// tables' names.
func LoadPublished(ctx context.Context, conn *pgx.Conn) (Published, error) {
	var p Published
	if err := conn.QueryRow(ctx, `SELECT publication FROM crossfade.run`).Scan(&p.Row); err != nil {
		return Published{}, fmt.Errorf("read how the publication was: %w", err)
	}
	var err error
	p.Tables, err = pg.Select(ctx, conn, func(t *PublishedTable) []any {
		return []any{&t.OID, &t.Table.Schema, &t.Table.Name, &t.Columns, &t.Row, &t.TakenOut}
	}, `SELECT relid, nsp, rel, columns, entry, taken_out FROM crossfade.published ORDER BY nsp, rel`)
	return p, pg.Wrap(err, "read how the publication was")
}

// SetTakenOut records why a table was taken out of the publication.
func SetTakenOut(ctx context.Context, conn *pgx.Conn, oid uint32, why string) error {
	_, err := conn.Exec(ctx, `UPDATE crossfade.published SET taken_out = $2 WHERE relid = $1`, oid, why)
	return pg.Wrap(err, "record that a table was taken out of the publication")
}

// SaveMark records on the target the state that something which no stream carries had when it was
// copied.
func SaveMark(ctx context.Context, target *pgx.Conn, what, mark string) error {
	_, err := target.Exec(ctx, `INSERT INTO crossfade.unfollowed (what, mark) VALUES ($1, $2) ON CONFLICT (what) DO UPDATE SET mark = excluded.mark`, what, mark)
	return pg.Wrap(err, "keep how %s stood", what)
}

// LoadMark returns what SaveMark kept, "" for nothing.
func LoadMark(ctx context.Context, target *pgx.Conn, what string) (mark string, err error) {
	err = target.QueryRow(ctx, `SELECT mark FROM crossfade.unfollowed WHERE what = $1`, what).Scan(&mark)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return mark, pg.Wrap(err, "read how %s stood", what)
}

// Forget removes a table from the journal: both that it is copied and which parts of it are.
func Forget(ctx context.Context, target *pgx.Conn, relid uint32) error {
	err := pgx.BeginFunc(ctx, target, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM crossfade.chunk WHERE relid = $1`, relid); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `DELETE FROM crossfade.relation WHERE relid = $1`, relid)
		return err
	})
	return pg.Wrap(err, "forget the copy of a table")
}
