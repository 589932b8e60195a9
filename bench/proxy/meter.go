package main

import (
	"sync"
	"time"
)

// meterEvery is how often a meter is read.
const meterEvery = 20 * time.Millisecond

// meter reads the CPU time of a contender again and again, so that what it needed in a
// span that is only known afterwards can be told: logins, and the ends of sessions, are
// not part of a transaction.
type meter struct {
	done chan struct{}
	wait sync.WaitGroup
	read readings
}

type reading struct {
	at    time.Time
	ticks int
}

type readings []reading

func measure(c *contender) *meter {
	m := &meter{done: make(chan struct{})}
	m.wait.Go(func() {
		again := time.NewTicker(meterEvery)
		defer again.Stop()
		for {
			m.read = append(m.read, reading{time.Now(), c.ticks()})
			select {
			case <-again.C:
			case <-m.done:
				return
			}
		}
	})
	return m
}

func (m *meter) stop() readings {
	close(m.done)
	m.wait.Wait()
	return m.read
}

// between is the CPU time from one reading near the begin to one near the end, in ticks.
func (l readings) between(begin, end time.Time) int {
	first, last := -1, 0
	for _, r := range l {
		switch {
		case r.at.Before(begin):
		case first < 0:
			first, last = r.ticks, r.ticks
		case !r.at.After(end):
			last = r.ticks
		}
	}
	return last - max(first, 0)
}
