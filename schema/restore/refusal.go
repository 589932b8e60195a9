package restore

import (
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/internal/base/pg"
	"crossfade/schema/archive"
	"crossfade/schema/finding"
	"crossfade/schema/plan"
)

// refusals are the entries that a restore with GoOn could not make: those that the target has
// refused, and those that need them. It is safe for concurrent use.
type refusals struct {
	mu   sync.Mutex
	ids  map[int]*archive.Entry // what was refused, by whatever lacks for it
	list []finding.Finding
}

// missing marks what an earlier part should have made and has not. plan's later parts are
// yet to come.
func (x *refusals) missing(p *plan.Plan, part plan.Part, done map[int]bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, earlier := range []plan.Part{plan.PreData, plan.AfterCopy, plan.Decision} {
		if plan.Order(earlier) >= plan.Order(part) {
			return
		}
		for _, e := range p.Entries(earlier) {
			if !done[e.ID] {
				x.ids[e.ID] = e
			}
		}
	}
}

// lacks reports what an entry needs that could not be made. The entry is then noted as
// one that cannot be made either.
func (x *refusals) lacks(e *archive.Entry) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, id := range e.Dependencies {
		cause := x.ids[id]
		if cause == nil {
			continue
		}
		x.ids[e.ID] = cause
		if !slices.Contains(attributes, e.Kind) {
			x.list = append(x.list, finding.Finding{ID: e.ID, Kind: e.Kind, Schema: e.Schema, Name: e.Tag,
				Message: "not tried, since it needs " + strings.ToLower(cause.Kind) + " " + cause.Tag + ", which could not be made"})
		}
		return true
	}
	return false
}

// attributes are kinds that only say something of another object: that they lack it is no news.
var attributes = []string{"ACL", "COMMENT", "SECURITY LABEL", plan.KindOwner, "SEQUENCE OWNED BY", "TABLE ATTACH", "INDEX ATTACH", "ROW SECURITY"}

// take notes the refusal of an entry, if err is one and the session has outlived it.
func (x *refusals) take(conn *pgx.Conn, e *archive.Entry, err error) bool {
	var refused *Error
	if !errors.As(err, &refused) || conn.IsClosed() || !RefusedForGood(err) {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ids[e.ID] = e
	x.list = append(x.list, refused.Finding)
	return true
}

func (x *refusals) any() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.ids) > 0
}

// has reports whether an entry could not be made.
func (x *refusals) has(id int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.ids[id] != nil
}

// findings are all that could not be made, in the archive's order.
func (x *refusals) findings() []finding.Finding {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := slices.Clone(x.list)
	slices.SortStableFunc(out, func(a, b finding.Finding) int { return a.ID - b.ID })
	return out
}

// passingClasses are SQLSTATE classes of what is no answer to a statement: the connection,
// the server's resources, its operator, its disk, a transaction that has to be done again.
var passingClasses = []string{"08", "40", "53", "57", "58"}

// RefusedForGood reports whether an error is the server's word on a statement, which
// another attempt would get too.
func RefusedForGood(err error) bool {
	said, ok := errors.AsType[*pgconn.PgError](err)
	return ok && !pg.ConnectionLost(err) && len(said.Code) == 5 && !slices.Contains(passingClasses, said.Code[:2])
}
