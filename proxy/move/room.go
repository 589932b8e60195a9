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

// RoomError says that the other side does not take as many connections as the sessions
// need that are to be moved.
type RoomError struct {
	Endpoint string
	Lacks    []Lack
}

// Lack is a limit that would be exceeded.
type Lack struct {
	ask.Room
	Need int64 // connections more than there are
}

func (e *RoomError) Error() string {
	parts := lists.Map(e.Lacks, Lack.String)
	return fmt.Sprintf("the %s has no room for the sessions: %s", e.Endpoint, strings.Join(parts, "; "))
}

// String says what is lacking, with what to do.
func (l Lack) String() string {
	most := l.Used + l.Need
	switch l.Kind {
	case ask.RoomRole:
		return fmt.Sprintf("role %s may have %d connections there and has %d, and %d more are needed: ALTER ROLE %s CONNECTION LIMIT %d there",
			l.Name, l.Limit, l.Used, l.Need, pg.QuoteIdent(l.Name), most)
	case ask.RoomDatabase:
		return fmt.Sprintf("database %s may have %d connections there and has %d, and %d more are needed: ALTER DATABASE %s CONNECTION LIMIT %d there",
			l.Name, l.Limit, l.Used, l.Need, pg.QuoteIdent(l.Name), most)
	}
	return fmt.Sprintf("it has %d connections for roles that are no superusers, %d of them in use, and %d more are needed: raise max_connections by %d there (on Neon: a larger compute)",
		l.Limit, l.Used, l.Need, most-l.Limit)
}

// Bounds of counting: a connection that was closed a moment ago may count still.
const (
	roomLooks = 5
	roomPause = 50 * time.Millisecond
)

// room counts what the sessions need at the other side before anything is made there.
func (p *Mover) room(ctx context.Context, list []*session.Session, to *side.Endpoint) error {
	var err error
	look := 0
	for range retry.Poll(ctx, roomPause) {
		look++
		err = p.roomOnce(ctx, list, to)
		var lacks *RoomError
		if !errors.As(err, &lacks) || look == roomLooks {
			return err
		}
	}
	return err
}

func (p *Mover) roomOnce(ctx context.Context, list []*session.Session, to *side.Endpoint) error {
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
	lacks := &RoomError{Endpoint: to.Name}
	for _, database := range slices.Sorted(maps.Keys(need)) {
		roles := need[database]
		var rooms []ask.Room
		err := p.Sides.AskAmong(ctx, to, database, p.Sides.Callers(database, session.CallersOf(list)), func(ctx context.Context, l *state.Link) (err error) {
			rooms, err = ask.Rooms(ctx, l, slices.Sorted(maps.Keys(roles)))
			return err
		})
		if err != nil {
			return fmt.Errorf("count the connections that the sessions need at the %s: %w", to.Name, err)
		}
		var all int64
		for _, n := range roles {
			all += n
		}
		for _, room := range rooms {
			l := Lack{Room: room, Need: all}
			if room.Kind == ask.RoomRole {
				l.Need = roles[room.Name]
			}
			if room.Limit >= 0 && l.Used+l.Need > room.Limit {
				lacks.Lacks = append(lacks.Lacks, l)
			}
		}
	}
	if len(lacks.Lacks) > 0 {
		return lacks
	}
	return nil
}
