package watch

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/control"
	"crossfade/internal/base/onedatabase"
)

// AskOneDatabase finds out whether a name of one side has come to lead to the other since the
// run began, as an entry of DNS or a list of hosts may.
func AskOneDatabase(ctx context.Context, source, target *pgx.Conn) ([]Notice, error) {
	err := onedatabase.Refuse(ctx, source, target)
	var one *onedatabase.Error
	if !errors.As(err, &one) {
		return nil, err
	}
	detail, _ := one.Parts()
	return []Notice{{Blocker: control.Blocker{Code: "one_database", Detail: detail,
		Remedy: "put right what these names lead to (an entry of DNS, a list of hosts, a port that is passed on); crossfade run asks again by itself"}}}, nil
}
