package logins

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/pg"
)

// HandOver gives roles that the run has made the passwords that their applications use, if these
// are known, and lists in notes the roles whose password the operator has to set. The proxy uses
// the new passwords from here on.
func (l *logins) HandOver(ctx context.Context, target *pgx.Conn) (notes []string, err error) {
	neon, err := dbconn.IsNeon(ctx, target)
	if err != nil {
		return nil, err
	}
	p := &passwords{key: l.key, neon: neon}
	l.mu.Lock()
	made := maps.Clone(l.made)
	l.mu.Unlock()
	var same, own []string
	for _, role := range slices.Sorted(maps.Keys(made)) {
		if made[role] == "" {
			continue
		}
		password, known := l.plain(role)
		if known {
			known, err = l.replace(ctx, target, p, role, password)
			if err != nil {
				return nil, err
			}
		}
		if known {
			same = append(same, role)
		} else {
			own = append(own, "ALTER ROLE "+pg.QuoteIdent(role)+" PASSWORD '…'")
		}
	}
	if len(same) > 0 {
		notes = append(notes, "these roles have the passwords at the target that they have at the source: "+strings.Join(same, ", "))
	}
	if len(own) > 0 {
		notes = append(notes, "these roles have passwords at the target that only crossfade run knows, until crossfade clean: give each one when its applications go to the target themselves; the proxy logs it in no more from then on: "+strings.Join(own, "; "))
	}
	return notes, nil
}

// replace gives a role a password; done is false where the target refuses it, as Neon does
// with one that is too simple.
func (l *logins) replace(ctx context.Context, target *pgx.Conn, p *passwords, role, password string) (done bool, err error) {
	err = pgx.BeginFunc(ctx, target, func(tx pgx.Tx) error {
		literal, err := p.keep(ctx, tx, role, password)
		if err == nil {
			_, err = tx.Exec(ctx, "ALTER ROLE "+pg.QuoteIdent(role)+" PASSWORD "+literal)
		}
		return err
	})
	switch {
	case pg.Code(err) != "":
		return false, nil
	case err != nil:
		return false, fmt.Errorf("give role %s its password: %w", role, err)
	}
	l.mu.Lock()
	l.made[role] = password
	l.mu.Unlock()
	return true, nil
}
