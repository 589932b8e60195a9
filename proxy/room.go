package proxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"crossfade/internal/pg"
	"crossfade/proxy/session"
)

// RoomError says that the other side does not take as many connections as the sessions
// need that are to be moved.
type RoomError struct {
	Endpoint string
	Lacks    []Lack
}

// Lack is a limit that would be exceeded.
type Lack struct {
	session.Room
	Need int64 // connections more than there are
}

func (e *RoomError) Error() string {
	var parts []string
	for _, l := range e.Lacks {
		parts = append(parts, l.String())
	}
	return fmt.Sprintf("the %s has no room for the sessions: %s", e.Endpoint, strings.Join(parts, "; "))
}

// String says what is lacking, with what to do.
func (l Lack) String() string {
	most := l.Used + l.Need
	switch l.Kind {
	case session.RoomRole:
		return fmt.Sprintf("role %s may have %d connections there and has %d, and %d more are needed: ALTER ROLE %s CONNECTION LIMIT %d there",
			l.Name, l.Limit, l.Used, l.Need, pg.QuoteIdent(l.Name), most)
	case session.RoomDatabase:
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
func (p *Proxy) room(ctx context.Context, list []*relay, to *Endpoint) error {
	t := time.NewTicker(roomPause)
	defer t.Stop()
	for look := 1; ; look++ {
		err := p.roomOnce(ctx, list, to)
		var lacks *RoomError
		if !errors.As(err, &lacks) || look == roomLooks {
			return err
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return err
		}
	}
}

func (p *Proxy) roomOnce(ctx context.Context, list []*relay, to *Endpoint) error {
	var mu sync.Mutex
	need := map[string]map[string]int64{} // by the client's name of the database, and the role there
	p.each(ctx, list, 0, func(_ context.Context, r *relay) {
		as, err := to.account(r.user, r.proof)
		if err != nil || r.warm != nil || r.knownUnmovable() {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if need[r.database] == nil {
			need[r.database] = map[string]int64{}
		}
		need[r.database][as.name]++
	})
	lacks := &RoomError{Endpoint: to.Name}
	for _, database := range slices.Sorted(maps.Keys(need)) {
		roles := need[database]
		var rooms []session.Room
		err := p.askAmong(ctx, to, database, p.callers(database, list), func(ctx context.Context, l *session.Link) (err error) {
			rooms, err = l.Room(ctx, slices.Sorted(maps.Keys(roles)))
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
			if room.Kind == session.RoomRole {
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

// knownUnmovable reports that the last look at the session, with nothing sent since, has
// found what cannot be moved: it needs no connection.
func (r *relay) knownUnmovable() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	j := &r.mu.judged
	return !j.at.IsZero() && !j.verdict.Movable() && j.frames == r.mu.tracker.ClientFrames()
}
