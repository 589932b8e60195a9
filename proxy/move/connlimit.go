package move

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/proxy/ask"
	"crossfade/proxy/session"
	"crossfade/proxy/side"
	"crossfade/proxy/state"
)

// ConnLimitError says that the other side does not take as many connections as the sessions
// need that are to be moved.
type ConnLimitError struct {
	Endpoint string
	Lacks    []Lack
}

// Lack is a limit that would be exceeded.
type Lack struct {
	ask.ConnLimit
	Need int64 // connections more than there are
}

func (e *ConnLimitError) Error() string {
	parts := lists.Map(e.Lacks, Lack.String)
	return fmt.Sprintf("the %s has no room for the sessions: %s", e.Endpoint, strings.Join(parts, "; "))
}

// String says what is lacking, with what to do.
func (l Lack) String() string {
	most := l.Used + l.Need
	switch l.Kind {
	case ask.LimitOfRole:
		return fmt.Sprintf("role %s may have %d connections there and has %d, and %d more are needed: ALTER ROLE %s CONNECTION LIMIT %d there",
			l.Name, l.Limit, l.Used, l.Need, pg.QuoteIdent(l.Name), most)
	case ask.LimitOfDatabase:
		return fmt.Sprintf("database %s may have %d connections there and has %d, and %d more are needed: ALTER DATABASE %s CONNECTION LIMIT %d there",
			l.Name, l.Limit, l.Used, l.Need, pg.QuoteIdent(l.Name), most)
	}
	return fmt.Sprintf("it has %d connections for roles that are no superusers, %d of them in use, and %d more are needed: raise max_connections by %d there (on Neon: a larger compute)",
		l.Limit, l.Used, l.Need, most-l.Limit)
}

// Bounds of counting: a connection that was closed a moment ago may count still.
const (
	connLimitTries = 5
	connLimitPause = 50 * time.Millisecond
)

// checkConnLimits counts the connections that the sessions need on the other side, before anything
// is made there.
func (p *Mover) checkConnLimits(ctx context.Context, list []*session.Session, to *side.Endpoint) error {
	var err error
	tries := 0
	for range retry.Poll(ctx, connLimitPause) {
		tries++
		err = p.checkConnLimitsOnce(ctx, list, to)
		var lacks *ConnLimitError
		if !errors.As(err, &lacks) || tries == connLimitTries {
			return err
		}
	}
	return err
}

func (p *Mover) checkConnLimitsOnce(ctx context.Context, list []*session.Session, to *side.Endpoint) error {
	var mu sync.Mutex
	need := map[string]map[string]int64{} // by the client's name of the database, and the role there
	p.each(ctx, list, 0, func(_ context.Context, r *session.Session) {
		as, err := to.Account(r.User, r.Proof)
		if err != nil || r.Owner.HasWarm() || r.View.KnownUnmovable() {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if need[r.Database] == nil {
			need[r.Database] = map[string]int64{}
		}
		need[r.Database][as.Name]++
	})
	lacks := &ConnLimitError{Endpoint: to.Name}
	for _, database := range slices.Sorted(maps.Keys(need)) {
		roles := need[database]
		var limits []ask.ConnLimit
		err := p.Sides.AskAmong(ctx, to, database, p.Sides.Callers(database, session.CallersOf(list)), func(ctx context.Context, l *state.Link) (err error) {
			limits, err = ask.ConnLimits(ctx, l, slices.Sorted(maps.Keys(roles)))
			return err
		})
		if err != nil {
			return fmt.Errorf("count the connections that the sessions need at the %s: %w", to.Name, err)
		}
		var all int64
		for _, n := range roles {
			all += n
		}
		for _, limit := range limits {
			l := Lack{ConnLimit: limit, Need: all}
			if limit.Kind == ask.LimitOfRole {
				l.Need = roles[limit.Name]
			}
			if limit.Limit >= 0 && l.Used+l.Need > limit.Limit {
				lacks.Lacks = append(lacks.Lacks, l)
			}
		}
	}
	if len(lacks.Lacks) > 0 {
		return lacks
	}
	return nil
}
