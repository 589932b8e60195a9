package relay

import (
	"context"
	"sync"
	"time"
)

// burstTime is how much of its rate a Limiter saves up while it is not used: enough for a worker
// that a scheduler has delayed, too little to be seen on a network.
const burstTime = 100 * time.Millisecond

// Limiter bounds the bytes a second of all the workers that share it: a bucket of tokens that may
// run into debt, so that a buffer larger than what the rate gives in a second goes as a whole and
// is paid for afterwards. Workers are served in the order in which they ask, a buffer each, so that
// none starves. The zero Limiter is not usable: make one with NewLimiter. Its methods may be called
// by several goroutines; a nil *Limiter limits nothing.
type Limiter struct {
	turn chan struct{} // holds one token: the right to take from the bucket

	mu      sync.Mutex
	rate    int64 // bytes a second; 0 means no bound
	paused  bool
	saved   float64   // bytes that may go at once; below 0 is a debt
	at      time.Time // when saved was reckoned
	changed chan struct{}
}

// NewLimiter returns a Limiter of rate bytes a second, 0 for no bound.
func NewLimiter(rate int64) *Limiter {
	l := &Limiter{turn: make(chan struct{}, 1), changed: make(chan struct{}), at: time.Now()}
	l.rate = max(rate, 0)
	l.turn <- struct{}{}
	return l
}

// Rate returns the bound in bytes a second, 0 for none.
func (l *Limiter) Rate() int64 {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rate
}

// SetRate changes the bound, also for those who wait; 0 takes it away.
func (l *Limiter) SetRate(rate int64) {
	l.change(func() {
		l.rate = max(rate, 0)
		l.saved = min(l.saved, 0)
		if l.rate == 0 {
			l.saved = 0 // what is owed under an old bound binds no later one
		}
	})
}

// Pause lets nothing through until it is lifted; the rate is kept.
func (l *Limiter) Pause(on bool) { l.change(func() { l.paused = on }) }

// Paused reports whether the limiter is paused.
func (l *Limiter) Paused() bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.paused
}

func (l *Limiter) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refill()
	f()
	close(l.changed)
	l.changed = make(chan struct{})
}

// Wait returns when n bytes may go, or with false when ctx has ended or one of
// the stop channels is closed.
func (l *Limiter) Wait(ctx context.Context, n int, stop <-chan struct{}) bool {
	if l == nil || l.free() {
		return true
	}
	select {
	case <-l.turn:
	case <-ctx.Done():
		return false
	case <-stop:
		return false
	}
	defer func() { l.turn <- struct{}{} }()
	for {
		wait, changed := l.take(n)
		if wait == 0 {
			return true
		}
		var due <-chan time.Time
		var timer *time.Timer
		if wait > 0 {
			timer = time.NewTimer(wait)
			due = timer.C
		}
		ok := true
		select {
		case <-due:
		case <-changed:
		case <-ctx.Done():
			ok = false
		case <-stop:
			ok = false
		}
		if timer != nil {
			timer.Stop()
		}
		if !ok {
			return false
		}
	}
}

// free reports that there is no bound.
func (l *Limiter) free() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rate == 0 && !l.paused
}

// take takes n bytes if there is no debt, and says else how long until then,
// below 0 for as long as nothing changes.
func (l *Limiter) take(n int) (wait time.Duration, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refill()
	switch {
	case l.paused:
		return -1, l.changed
	case l.rate == 0:
		return 0, nil
	case l.saved < 0:
		return time.Duration(-l.saved/float64(l.rate)*float64(time.Second)) + time.Nanosecond, l.changed
	}
	l.saved -= float64(n)
	return 0, nil
}

func (l *Limiter) refill() {
	now := time.Now()
	l.saved = min(l.saved+now.Sub(l.at).Seconds()*float64(l.rate), burstTime.Seconds()*float64(l.rate))
	l.at = now
}
