package logins

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/proxy/auth/scram"
	"crossfade/schema/finding"
	"crossfade/schema/plan"
	"crossfade/schema/roles"
)

// logins are the roles of the target that applications log in as: roles with the source's names,
// which a run makes with passwords that only it knows. Safe for concurrent use.
type logins struct {
	cfg Config
	log zerolog.Logger
	key journal.PasswordKey

	// plain returns the password of a role of the source, where it is known.
	plain func(role string) (password string, ok bool)

	// others are the roles of the target that the users file maps roles to.
	others func() []string

	turn     sync.Mutex      // one makes roles
	admitted map[string]bool // of others, by this start; under turn
	refused  roles.Refused   // what the target does not let us change; under turn
	denied   refusals        // what the target does not let us make or own; under turn
	rest     time.Duration   // before a password that was refused is tried once more

	mu    sync.Mutex
	made  map[string]string // passwords of the roles that the run has made, by name
	tried map[string]trial  // of roles that were there before, by name
	found []finding.Finding // what could not be made as on the source
}

// trial is what became of logging in to the target with a password of the source.
type trial struct {
	password string
	entered  bool
	full     string    // what the target says that has no session for the role: nothing is known of the password then
	at       time.Time // when it was refused
}

// trialRest is how long a refused password rests. The target counts and logs what it refuses.
const trialRest = time.Minute

func newLogins(cfg Config, log zerolog.Logger) (*logins, error) {
	key, err := journal.NewPasswordKey(targetSecret(cfg.Target))
	if err != nil {
		return nil, err
	}
	return &logins{cfg: cfg, log: log, key: key, made: map[string]string{}, tried: map[string]trial{}, admitted: map[string]bool{}, refused: roles.Refused{}, denied: refusals{}, rest: trialRest}, nil
}

// targetSecret is what only who logs in as the target's role has: its password, or the private
// key of its certificate. Where it needs neither, every role of the target needs none.
func targetSecret(target pg.DSN) string {
	if p := target.Password(); p != "" {
		return p
	}
	if t := target.Config().TLSConfig; t != nil && len(t.Certificates) > 0 {
		if key, err := x509.MarshalPKCS8PrivateKey(t.Certificates[0].PrivateKey); err == nil {
			return string(key)
		}
	}
	return ""
}

// Ensure makes on the target what it lacks of the source's roles.
func (l *logins) Ensure(ctx context.Context, source, target *pgx.Conn) error {
	l.turn.Lock()
	defer l.turn.Unlock()
	if err := l.Load(ctx, target); err != nil {
		return err
	}
	known, err := roles.ReadInvolved(ctx, source)
	if err != nil {
		return err
	}
	for i, r := range known.Roles {
		if l.cfg.MapRole[r.Name] == NoRole {
			known.Roles[i].Login = false
		}
	}
	p, err := l.passwordsOf(ctx, target)
	if err != nil {
		return err
	}
	mapped := l.cfg.SchemaRoles()
	there, err := roles.Read(ctx, target)
	if err != nil {
		return err
	}
	var report roles.Report
	may := there.Rights(target.Config().User)
	lacks := func(name string) bool { return mapped[name] == "" && !slices.Contains(there.Names(), name) }
	if slices.ContainsFunc(known.Names(), func(name string) bool { return lacks(name) && !l.denied.rests("make "+name, may, time.Now()) }) {
		if report, err = roles.Make(ctx, target, known, mapped, p, l.log); err == nil {
			err = l.Load(ctx, target)
		}
		if err == nil {
			there, err = roles.Read(ctx, target)
		}
		for _, name := range known.Names() {
			if err == nil && lacks(name) {
				l.denied.note("make "+name, may, time.Now())
			}
		}
	}
	if err == nil {
		var findings []finding.Finding
		findings, err = roles.Align(ctx, target, known, there, mapped, l.isMade, l.refused, l.log)
		report.Findings = append(report.Findings, findings...)
	}
	if err == nil {
		err = l.try(ctx, known, there.Names())
	}
	if err == nil {
		err = l.admit(ctx, target, there.Names())
	}
	if err == nil {
		var findings []finding.Finding
		findings, err = l.own(ctx, source, target, known, may)
		report.Findings = append(report.Findings, findings...)
	}
	if err != nil {
		return fmt.Errorf("make the logins of the target: %w", err)
	}
	l.mu.Lock()
	before := len(l.found)
	l.found = lists.AddNew(l.found, report.Findings...)
	fresh := l.found[before:]
	l.mu.Unlock()
	for _, f := range fresh {
		event := l.log.Warn()
		if f.Kind == "ROLE" && f.Name == source.Config().User && strings.HasPrefix(f.Message, "REPLICATION ") { // which it has for the migration
			event = l.log.Info()
		}
		event.Str("finding", f.String()).Msg("a role is not as it is on the source")
	}
	return nil
}

// TryThere is try with what both sides have.
func (l *logins) TryThere(ctx context.Context, source, target *pgx.Conn) error {
	known, err := roles.ReadInvolved(ctx, source)
	if err != nil {
		return err
	}
	there, err := roles.Read(ctx, target)
	if err != nil {
		return err
	}
	return l.try(ctx, known, there.Names())
}

// try logs in to the target as roles that were there before, with the passwords that they have on
// the source, where these are known: each password until it is accepted, a refused one once a
// minute. A role for which the target has no free session delays nothing else.
func (l *logins) try(ctx context.Context, roles roles.Roles, there []string) error {
	stands := slices.Collect(maps.Values(l.cfg.MapRole)) // for another one
	for _, r := range roles.Roles {
		password, known := l.plain(r.Name)
		l.mu.Lock()
		before := l.tried[r.Name]
		l.mu.Unlock()
		if !r.Login || !known || password == before.password && (before.entered || before.full == "" && time.Since(before.at) < l.rest) || l.isMade(r.Name) || !slices.Contains(there, r.Name) || r.Name == l.cfg.Target.User() ||
			l.cfg.MapRole[r.Name] != "" && !slices.Contains(stands, r.Name) {
			continue
		}
		conn, err := pg.Connect(ctx, l.cfg.Target.WithUser(r.Name, password), pg.WithName("logins"))
		now := trial{password: password, entered: err == nil, at: time.Now()}
		switch {
		case err == nil:
			dbconn.CloseNow(conn)
		case pg.TooManyConnections(err):
			now.full = refusalOf(err)
		case pg.ConnectionLost(err) || ctx.Err() != nil:
			return err
		}
		l.mu.Lock()
		l.tried[r.Name] = now
		l.mu.Unlock()
	}
	return nil
}

// admit lets roles of the users file connect to the target's database, where the right of
// everybody to do so may go with the last part of the schema. Who may not give the right
// need not be told: what lacks is compared.
func (l *logins) admit(ctx context.Context, target *pgx.Conn, there []string) error {
	database := pg.QuoteIdent(l.cfg.Target.Database())
	for _, role := range l.others() {
		if l.admitted[role] || !slices.Contains(there, role) || role == l.cfg.Target.User() {
			continue
		}
		err := journal.ChangeWithUndo(ctx, target, "GRANT CONNECT ON DATABASE "+database+" TO "+pg.QuoteIdent(role), "REVOKE CONNECT ON DATABASE "+database+" FROM "+pg.QuoteIdent(role))
		if err != nil && pg.Code(err) == "" {
			return fmt.Errorf("let role %s connect to the target: %w", role, err)
		}
		l.admitted[role] = true
	}
	return nil
}

// Load reads the logins that were made, and gives new passwords to those that the journal has under
// another key: the password of --target was changed.
func (l *logins) Load(ctx context.Context, target *pgx.Conn) error {
	list, err := journal.LoadLogins(ctx, target, l.key)
	if err != nil {
		return err
	}
	made := make(map[string]string, len(list))
	for _, x := range list {
		if x.Unreadable {
			if x.Password, err = l.renew(ctx, target, x.Name); err != nil {
				return err
			}
		}
		made[x.Name] = x.Password
	}
	l.mu.Lock()
	l.made = made
	l.mu.Unlock()
	return nil
}

// renew gives a role that the run has made another password.
func (l *logins) renew(ctx context.Context, target *pgx.Conn, name string) (string, error) {
	p, err := l.passwordsOf(ctx, target)
	if err != nil {
		return "", err
	}
	password := journal.NewPassword()
	if err := p.set(ctx, target, name, password); err != nil {
		return "", fmt.Errorf("give role %s another password: %w", name, withoutStatement(err))
	}
	l.log.Warn().Str("role", name).Msg("the role's password could not be read with the password of --target, and was replaced by a new one")
	return password, nil
}

// withoutStatement keeps a server's error from quoting the statement.
func withoutStatement(err error) error {
	if code := pg.Code(err); code != "" {
		return errors.New("the target refuses it (SQLSTATE " + code + ")")
	}
	return err
}

// credentials returns the credentials of a role of the target: the password that the run has made,
// or the source's if the target did not refuse it. After the switch nothing is tried before a
// login, so that an untried password counts.
func (l *logins) credentials(role string) (password string, ok bool) {
	plain, known := l.plain(role)
	l.mu.Lock()
	defer l.mu.Unlock()
	if p, made := l.made[role]; made {
		return p, p != ""
	}
	t, tried := l.tried[role]
	switch {
	case !known || tried && t.password == plain && t.full == "":
		return t.password, t.entered
	case role == l.cfg.Target.User():
		return "", false // by the operator's word alone
	}
	return plain, true
}

// full returns what the target said when it had no session for a role, "" where it had one.
func (l *logins) full(role string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tried[role].full
}

// isMade reports whether the run has made a role of the target.
func (l *logins) isMade(role string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.made[role]
	return ok
}

// passwords are the schema.Passwords that are kept in the journal.
type passwords struct {
	key  journal.PasswordKey
	neon bool
}

func (l *logins) passwordsOf(ctx context.Context, target *pgx.Conn) (*passwords, error) {
	neon, err := dbconn.IsNeon(ctx, target)
	return &passwords{key: l.key, neon: neon}, err
}

// set gives a role a password, and records it.
func (p *passwords) set(ctx context.Context, target *pgx.Conn, role, password string) error {
	return pgx.BeginFunc(ctx, target, func(tx pgx.Tx) error {
		literal, err := p.keep(ctx, tx, role, password)
		if err == nil {
			_, err = tx.Exec(ctx, "ALTER ROLE "+pg.QuoteIdent(role)+" PASSWORD "+literal)
		}
		return err
	})
}

// Make implements schema.Passwords.
func (p *passwords) Make(ctx context.Context, tx pgx.Tx, r roles.Role) (string, error) {
	if !r.Login {
		return "", journal.KeepLogin(ctx, tx, p.key, journal.Login{Name: r.Name})
	}
	return p.keep(ctx, tx, r.Name, journal.NewPassword())
}

// keep records the password of a role and returns it as the target wants it: Neon refuses
// everything but plain text; elsewhere a server's log may show statements, and is shown a verifier.
func (p *passwords) keep(ctx context.Context, tx pgx.Tx, role, password string) (literal string, err error) {
	if err := journal.KeepLogin(ctx, tx, p.key, journal.Login{Name: role, Password: password}); err != nil {
		return "", err
	}
	if p.neon {
		return pg.QuoteLiteral(password), nil
	}
	salt := scram.NewSalt()
	keys, err := verifiers.Derive(ctx, role, password, salt, scram.DefaultIterations)
	if err != nil {
		return "", err
	}
	return pg.QuoteLiteral(keys.Verifier(salt, scram.DefaultIterations).Encode()), nil
}

var verifiers = scram.NewDeriver(0)

// DropLogins removes the roles that a run has made from the target, with what they own
// and were granted in its database.
func DropLogins(ctx context.Context, target *pgx.Conn, tell func(string)) error {
	if there, err := journal.Installed(ctx, target); err != nil || !there {
		return err
	}
	var errs []error
	if err := journal.Undo(ctx, target, func(sql string) { tell("target: what the run had changed, by: " + sql) }); err != nil {
		errs = append(errs, err)
	}
	list, err := journal.LoadLogins(ctx, target, journal.PasswordKey{})
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, x := range list {
		why, err := plan.MayOwn(ctx, target, x.Name) // only a member may drop what a role owns
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		err = pgx.BeginFunc(ctx, target, func(tx pgx.Tx) error {
			if why != plan.NoSuchRole {
				role := pg.QuoteIdent(x.Name)
				for _, sql := range []string{"REASSIGN OWNED BY " + role + " TO CURRENT_USER", "DROP OWNED BY " + role, "DROP ROLE " + role} {
					if _, err := tx.Exec(ctx, sql); err != nil {
						return fmt.Errorf("%s: %w", sql, err)
					}
				}
			}
			return journal.ForgetLogin(ctx, tx, x.Name)
		})
		switch {
		case pg.IsCode(err, pg.CodeDependentObjects, pg.CodeInsufficientPrivilege):
			tell(fmt.Sprintf("target: not role %s: %s", x.Name, refusalOf(err)))
		case err != nil:
			errs = append(errs, err)
		default:
			tell("target: role " + x.Name)
		}
	}
	return errors.Join(errs...)
}
