package journal

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// SaveMark records on the target the state that something which no stream carries had when it was
// copied.
func SaveMark(ctx context.Context, target *pgx.Conn, what, mark string) error {
	_, err := target.Exec(ctx, `INSERT INTO crossfade.unfollowed (what, mark) VALUES ($1, $2) ON CONFLICT (what) DO UPDATE SET mark = excluded.mark`, what, mark)
	if err != nil {
		return fmt.Errorf("keep how %s stood: %w", what, err)
	}
	return nil
}

// LoadMark returns what SaveMark kept, "" for nothing.
func LoadMark(ctx context.Context, target *pgx.Conn, what string) (mark string, err error) {
	err = target.QueryRow(ctx, `SELECT mark FROM crossfade.unfollowed WHERE what = $1`, what).Scan(&mark)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("read how %s stood: %w", what, err)
	}
	return mark, nil
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
	if err != nil {
		return fmt.Errorf("forget the copy of a table: %w", err)
	}
	return nil
}
