package roles

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/rs/zerolog"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/schema/finding"
)

// Report says what Make did.
type Report struct {
	Made     []string          // roles that were not there
	Findings []finding.Finding // what the target does not let us give them, all harmless
}

// Passwords provides the passwords of roles that are made, and keeps them.
type Passwords interface {
	// Make returns a password for a role as it is written after PASSWORD, quotes included, "" for
	// none. tx is the transaction that makes the role; r.Login says whether it may log in.
	Make(ctx context.Context, tx pgx.Tx, r Role) (literal string, err error)
}

// Make makes on the target those of the source's roles that it lacks, with their attributes,
// comments, memberships and settings, and without passwords if passwords is nil. Existing roles are
// not changed. mapped are the roles that are replaced by another one on the target and are not
// made. It may be repeated.
func Make(ctx context.Context, target *pgx.Conn, source Roles, mapped map[string]string, passwords Passwords, log zerolog.Logger) (Report, error) {
	m := &roleMaker{conn: target, mapped: mapped, passwords: passwords}
	err := m.make(ctx, source)
	if err != nil {
		return m.report, fmt.Errorf("make roles: %w", err)
	}
	if len(m.report.Made) > 0 { // the findings are the caller's to tell
		log.Info().Int("made", len(m.report.Made)).Int("findings", len(m.report.Findings)).Msg("roles made")
	}
	return m.report, nil
}

type roleMaker struct {
	conn      *pgx.Conn
	mapped    map[string]string
	passwords Passwords // nil for none
	report    Report
}

func (m *roleMaker) make(ctx context.Context, source Roles) error {
	there, err := Read(ctx, m.conn)
	if err != nil {
		return err
	}
	known := lists.Set(there.Names())
	var silent []string // roles that can log in, once they have a password
	for _, r := range source.Roles {
		if m.mapped[r.Name] != "" || known[r.Name] {
			continue
		}
		if err := m.role(ctx, r); err != nil {
			return err
		}
		if r.Login && slices.Contains(m.report.Made, r.Name) {
			silent = append(silent, r.Name)
		}
	}
	if len(silent) > 0 && m.passwords == nil {
		m.find(strings.Join(silent, ", "), "made without a password, since none can be read", "", `give each one: ALTER ROLE … PASSWORD '…'`)
	}
	for _, g := range source.Memberships {
		if err := m.grant(ctx, g, there.Memberships); err != nil {
			return err
		}
	}
	return m.settings(ctx, settingsOf(source.Settings, m.report.Made))
}

// role makes one role with what everybody may give, and then adds its powers one by one.
func (m *roleMaker) role(ctx context.Context, r Role) error {
	name := pg.QuoteIdent(r.Name)
	with := []string{either(r.Login, "LOGIN", "NOLOGIN"), either(r.Inherit, "INHERIT", "NOINHERIT")}
	if r.ConnLimit >= 0 {
		with = append(with, "CONNECTION LIMIT "+strconv.Itoa(r.ConnLimit))
	}
	if r.ValidUntil != "" {
		with = append(with, "VALID UNTIL "+pg.QuoteLiteral(r.ValidUntil))
	}
	made, err := m.create(ctx, r, "CREATE ROLE "+name+" WITH "+strings.Join(with, " "))
	if err != nil || !made {
		return err
	}
	m.report.Made = append(m.report.Made, r.Name)
	for _, power := range r.Powers {
		if _, err := m.try(ctx, r.Name, "ALTER ROLE "+name+" "+power, power); err != nil {
			return err
		}
	}
	if r.Comment == "" {
		return nil
	}
	_, err = m.try(ctx, r.Name, "COMMENT ON ROLE "+name+" IS "+pg.QuoteLiteral(r.Comment), "its comment")
	return err
}

// create runs the statement that makes a role, in one transaction with what is kept
// of its password.
func (m *roleMaker) create(ctx context.Context, r Role, sql string) (made bool, err error) {
	if m.passwords == nil {
		return m.try(ctx, r.Name, sql, "")
	}
	err = pgx.BeginFunc(ctx, m.conn, func(tx pgx.Tx) error {
		password, err := m.passwords.Make(ctx, tx, r)
		if err != nil {
			return err
		}
		if password != "" {
			sql += " PASSWORD " + password
		}
		return pg.Exec(ctx, m.conn, sql)
	})
	return m.refused(r.Name, "", err)
}

func (m *roleMaker) grant(ctx context.Context, g Membership, there []Membership) error {
	g.Role, g.Member = m.target(g.Role), m.target(g.Member)
	if !slices.Contains(m.report.Made, g.Role) && !slices.Contains(m.report.Made, g.Member) ||
		slices.ContainsFunc(there, func(x Membership) bool { return x.Role == g.Role && x.Member == g.Member }) {
		return nil
	}
	sql := "GRANT " + pg.QuoteIdent(g.Role) + " TO " + pg.QuoteIdent(g.Member)
	switch {
	case pg.ServerVersion(m.conn) >= 160000 && g.GrantedWithOptions:
		sql += fmt.Sprintf(" WITH ADMIN %t, INHERIT %t, SET %t", g.Admin, g.Inherit, g.Set)
	case g.Admin:
		sql += " WITH ADMIN OPTION"
	}
	_, err := m.try(ctx, g.Member, sql, "membership in "+g.Role)
	return err
}

func (m *roleMaker) target(role string) string { return cmp.Or(m.mapped[role], role) }

// settings gives roles what ALTER ROLE … SET had given them.
func (m *roleMaker) settings(ctx context.Context, settings []Setting) error {
	for _, s := range settings {
		role := m.target(s.Role)
		if s.Name == "role" {
			s.Value = m.target(s.Value)
		}
		if _, err := m.try(ctx, role, "ALTER ROLE "+pg.QuoteIdent(role)+" SET "+pg.QuoteIdent(s.Name)+" TO "+SettingValue(s.Name, s.Value), "setting "+s.Name); err != nil {
			return err
		}
	}
	return nil
}

// CopySettings gives the mapped roles of the target what ALTER ROLE … SET has given those of the
// source in all databases. What the target's role has itself stays. The findings are harmless.
func CopySettings(ctx context.Context, source, target *pgx.Conn, mapped map[string]string) ([]finding.Finding, error) {
	have, err := readRoleSettings(ctx, target)
	if err != nil {
		return nil, fmt.Errorf("copy settings of roles: %w", err)
	}
	want, err := readRoleSettings(ctx, source)
	if err != nil {
		return nil, fmt.Errorf("copy settings of roles: %w", err)
	}
	want = slices.DeleteFunc(settingsOf(want, slices.Collect(maps.Keys(mapped))), func(s Setting) bool {
		return slices.ContainsFunc(have, func(h Setting) bool { return h.Role == mapped[s.Role] && h.Name == s.Name })
	})
	m := &roleMaker{conn: target, mapped: mapped}
	err = m.settings(ctx, want)
	return m.report.Findings, pg.Wrap(err, "copy settings of roles")
}

// try runs a statement. A refusal of the server becomes a finding.
func (m *roleMaker) try(ctx context.Context, role, sql, what string) (done bool, err error) {
	return m.refused(role, what, pg.Exec(ctx, m.conn, sql))
}

// refused makes a finding of a refusal of the server.
func (m *roleMaker) refused(role, what string, err error) (done bool, _ error) {
	if err == nil {
		return true, nil
	}
	refused, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false, err
	}
	message := refused.Message
	if strings.HasPrefix(what, "setting ") && refused.Code == pg.CodeInvalidParameter {
		message = "the target does not take the value" // which the server's message contains
	}
	if what != "" {
		message = what + " is left out: " + message
	}
	m.find(role, message, refused.Code, "let a role of the target that may do so give it")
	return false, nil
}

func (m *roleMaker) find(name, message, code, remedy string) {
	m.report.Findings = append(m.report.Findings, finding.Finding{Kind: "ROLE", Name: name, Message: message, SQLSTATE: code, Remedy: remedy, Harmless: true})
}
