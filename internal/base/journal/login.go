package journal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/internal/base/pg"
)

// Login is a role that a run has made on the target. With clean it goes again.
type Login struct {
	Name string
	// Password logs it in, "" for a role that may not log in, and for one whose
	// password was encrypted with another key.
	Password string
	// Unreadable says that there is a password which this key does not decrypt.
	Unreadable bool
}

// Format keeps the password out of logs and error texts.
func (l Login) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "login %q", l.Name) }

// PasswordKey protects passwords in the journal from roles that can read its tables, such as a
// member of pg_read_all_data, and from dumps. It may be copied and used concurrently. The zero
// value decrypts none.
type PasswordKey struct{ aead cipher.AEAD }

// NewPasswordKey derives a key from the password of --target, which no application has.
func NewPasswordKey(password string) (PasswordKey, error) {
	var block cipher.Block
	var aead cipher.AEAD
	key, err := hkdf.Key(sha256.New, []byte(password), nil, "crossfade login passwords", 32)
	if err == nil {
		block, err = aes.NewCipher(key)
	}
	if err == nil {
		aead, err = cipher.NewGCMWithRandomNonce(block)
	}
	return PasswordKey{aead}, pg.Wrap(err, "derive the key of kept passwords")
}

func (k PasswordKey) encrypt(name, password string) []byte {
	return k.aead.Seal(nil, nil, []byte(password), []byte(name))
}

func (k PasswordKey) decrypt(name string, secret []byte) (string, bool) {
	if k.aead == nil {
		return "", false
	}
	plain, err := k.aead.Open(nil, nil, secret, []byte(name))
	return string(plain), err == nil
}

// NewPassword returns a password that fits Neon's rules: 60 bits and more of several
// kinds of characters.
func NewPassword() string { return "Cf-" + rand.Text() }

// Execer is what KeepLogin needs of a session or a transaction.
type Execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// KeepLogin records a role that is being made, in the transaction that makes it, or
// its new password.
func KeepLogin(ctx context.Context, q Execer, k PasswordKey, l Login) error {
	var secret []byte
	if l.Password != "" {
		secret = k.encrypt(l.Name, l.Password)
	}
	_, err := q.Exec(ctx, `INSERT INTO crossfade.login (name, secret) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET secret = EXCLUDED.secret`, l.Name, secret)
	return pg.Wrap(err, "keep the login of role %s", l.Name)
}

// LoadLogins reads the roles that the run has made, in order of their names.
func LoadLogins(ctx context.Context, conn *pgx.Conn, k PasswordKey) ([]Login, error) {
	list, err := pg.Rows(ctx, conn, func(row pgx.CollectableRow) (Login, error) {
		var l Login
		var secret []byte
		if err := row.Scan(&l.Name, &secret); err != nil || secret == nil {
			return l, err
		}
		var ok bool
		l.Password, ok = k.decrypt(l.Name, secret)
		l.Unreadable = !ok
		return l, nil
	}, `SELECT name, secret FROM crossfade.login ORDER BY name`)
	return list, pg.Wrap(err, "read the kept logins")
}

// ForgetLogin removes a role that is gone.
func ForgetLogin(ctx context.Context, q Execer, name string) error {
	_, err := q.Exec(ctx, `DELETE FROM crossfade.login WHERE name = $1`, name)
	return pg.Wrap(err, "forget the login of role %s", name)
}

// ChangeWithUndo runs a statement of the target that clean is to take back with
// another one, and records that, in one transaction. A statement that is recorded already
// is not recorded twice: the first one tells what was there before us.
func ChangeWithUndo(ctx context.Context, conn *pgx.Conn, sql, undo string) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO crossfade.undo (sql) VALUES ($1) ON CONFLICT DO NOTHING`, undo)
		return err
	})
}

// Undo takes back what was recorded, the last first, and tells each statement.
func Undo(ctx context.Context, conn *pgx.Conn, tell func(string)) error {
	list, err := pg.Rows(ctx, conn, pgx.RowTo[string], `SELECT sql FROM crossfade.undo ORDER BY id DESC`)
	if err != nil {
		return fmt.Errorf("read what is to be taken back: %w", err)
	}
	var errs []error
	for _, sql := range list {
		if _, err := conn.Exec(ctx, sql); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", sql, err))
			continue
		}
		if _, err := conn.Exec(ctx, `DELETE FROM crossfade.undo WHERE sql = $1`, sql); err != nil {
			errs = append(errs, err)
		}
		tell(sql)
	}
	return errors.Join(errs...)
}
