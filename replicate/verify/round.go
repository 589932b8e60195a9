package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"crossfade/internal/base/pg"
	"crossfade/replicate/snapshot"
)

const (
	// DefaultMaxAge bounds the age at which a pair is used for one more table: as long as a side's
	// snapshot is held, its server keeps the row versions that it can see.
	DefaultMaxAge = 10 * time.Minute
	// DefaultLooks is how often a table is compared, each time from a new pair, before it is
	// believed that it is not equal.
	DefaultLooks = 2
	// groupTables and groupBytes bound the tables that are compared at once. Small ones share the
	// questions that are asked of the catalogs; the age of the pair is looked at between groups.
	groupTables = 32
	groupBytes  = 64 << 20
	// mostLost bounds how often in a row a pair is lost before a table is settled.
	mostLost = 5
)

// Round compares tables from pairs that it takes and lets go, so that no snapshot becomes old. A
// table that is not equal is compared once more from another pair before that is told.
type Round struct {
	// Config says what is compared. Its Settled is told of each table once it is final, one at a time.
	Config Config
	// Pair takes a pair; the Round closes it.
	Pair   func(ctx context.Context) (*Frozen, error)
	Sizes  map[pg.Name]int64 // of the tables, in bytes, for the order and the progress
	MaxAge time.Duration     // DefaultMaxAge if 0
	Looks  int               // DefaultLooks if 0

	mu      sync.Mutex
	whole   int64     // bytes of all tables
	done    int64     // of those that are settled or to be looked at again
	group   int64     // of those that are compared now
	current *Verifier // nil between groups
}

// size is a table's share of the work: at least a page, for what each costs.
func (r *Round) size(t Table) int64 {
	var n int64
	for _, f := range t.files() {
		n += r.Sizes[f]
	}
	return max(n, 8<<10)
}

// Progress is how much of the tables' bytes has been read.
func (r *Round) Progress() (done, whole int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	done = r.done
	if r.current != nil {
		if read, all := r.current.Progress(); all > 0 {
			done += int64(float64(r.group) * float64(read) / float64(all))
		}
	}
	return done, r.whole
}

// Run compares all tables. Its error says why it could not complete; what Settled was told holds.
func (r *Round) Run(ctx context.Context) error {
	left := slices.Clone(r.Config.Tables)
	slices.SortStableFunc(left, func(a, b Table) int { return cmp.Compare(r.size(a), r.size(b)) })
	r.add(left, &r.whole)
	for look := 1; len(left) > 0; look++ {
		again, err := r.look(ctx, left, look >= cmp.Or(r.Looks, DefaultLooks))
		if err != nil {
			return err
		}
		r.add(again, &r.whole)
		left = again
	}
	return nil
}

func (r *Round) add(tables []Table, to *int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range tables {
		*to += r.size(t)
	}
}

// look compares tables once, and returns those that are to be compared again: none at the last look.
func (r *Round) look(ctx context.Context, left []Table, last bool) (again []Table, err error) {
	for lost := 0; len(left) > 0; {
		pair, err := r.Pair(ctx)
		if err != nil {
			return nil, err
		}
		taken := time.Now()
		for used := false; len(left) > 0 && (!used || time.Since(taken) < cmp.Or(r.MaxAge, DefaultMaxAge)); used = true {
			group := r.next(left)
			results, failed := r.compare(ctx, pair, group, last)
			for _, t := range group {
				if result, ok := results[t.Name]; ok && !final(result, last) {
					r.Config.Log.Warn().Str("table", t.Name.Display()).Str("verdict", string(result.Verdict)).Str("reason", result.Reason).Msg("table is compared again")
					again = append(again, t)
				}
			}
			left = slices.DeleteFunc(left, func(t Table) bool { _, ok := results[t.Name]; return ok })
			if len(results) > 0 {
				lost = 0
			}
			if failed == nil {
				continue
			}
			if lost++; !errors.Is(failed, snapshot.ErrLost) || ctx.Err() != nil || lost > mostLost {
				pair.Close()
				return nil, failed
			}
			break
		}
		pair.Close()
	}
	return again, nil
}

// next is the first tables of a list that are compared at once.
func (r *Round) next(left []Table) []Table {
	var bytes int64
	for i, t := range left {
		if bytes += r.size(t); i > 0 && (i == groupTables || bytes > groupBytes) {
			return slices.Clone(left[:i])
		}
	}
	return slices.Clone(left)
}

// final reports whether a result is believed.
func final(result Result, last bool) bool { return result.Verdict == Equal || last }

// compare compares a group, tells what is final at once, and returns what is known of it even where it
// fails.
func (r *Round) compare(ctx context.Context, pair *Frozen, group []Table, last bool) (map[pg.Name]Result, error) {
	results := map[pg.Name]Result{}
	var mu sync.Mutex
	cfg := r.Config
	cfg.Tables = group
	cfg.Settled = func(result Result) {
		mu.Lock()
		defer mu.Unlock()
		if results[result.Name] = result; final(result, last) {
			r.Config.Settled(result)
		}
	}
	v, err := New(cfg)
	if err != nil {
		return nil, fmt.Errorf("compare both sides: %w", err)
	}
	var bytes int64
	for _, t := range group {
		bytes += r.size(t)
	}
	r.mu.Lock()
	r.current, r.group = v, bytes
	r.mu.Unlock()
	_, err = v.Run(ctx, pair)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current = nil
	for _, t := range group {
		if _, ok := results[t.Name]; ok {
			r.done += r.size(t)
		}
	}
	return results, err
}
