package poll

import (
	"syscall"
	"time"
	"unsafe"
)

// batch is how many events a worker takes at once. What it has taken waits for it: when the kernel
// gives its core to another process, the workers that are awake serve all sessions but these.
const batch = 4

// worker is a goroutine that serves sessions of a queue. One waits for events; the others sleep
// until there are more than one worker has taken.
type worker struct {
	q      *queue
	events [batch]syscall.EpollEvent
	ready  int

	mayBusyPoll bool
	spins       [2]spin // one for each kind of socket that the last poll brought: a client's, a server's
	last        uint64  // the key that had the last turn
	alone       int     // consecutive turns of that session
}

// run waits for events and serves them until the queue is closed. The runtime's poller knows the
// queue: with nothing to do, run is a goroutine that waits like any other, and wakes on the thread
// that polls.
func (w *worker) run() {
	try := w.pollNow // made once: a method value allocates
	for {
		if !w.busyPoll() && !(w.ready > 1 && w.pollTwice()) && w.q.raw.Read(try) != nil {
			return
		}
		w.serve()
	}
}

// help serves events when there are more than other workers have taken, until there are none.
func (w *worker) help() {
	for {
		select {
		case <-w.q.wake:
		case <-w.q.done:
			return
		}
		for w.pollTwice() {
			w.serve()
		}
	}
}

// serve serves what the last poll brought. If that may not have been all, another worker takes the
// rest.
func (w *worker) serve() {
	if w.ready == batch {
		select {
		case w.q.wake <- struct{}{}:
		default:
		}
	}
	for i := range w.ready {
		ev := &w.events[i]
		if w.alone++; w.last != eventData(ev)>>1 {
			w.last, w.alone = eventData(ev)>>1, 0
		}
		w.q.serve(ev)
	}
}

// pollTwice polls for a worker that has just served several sockets. It lets the other processes
// of its core run before it polls for the last time: on a busy machine these have the next requests
// and answers ready by then, and nothing has to be put to sleep and woken.
func (w *worker) pollTwice() bool {
	if w.pollNow(uintptr(w.q.fd)) {
		return true
	}
	_, _, _ = syscall.RawSyscall(syscall.SYS_SCHED_YIELD, 0, 0, 0)
	return w.pollNow(uintptr(w.q.fd))
}

// busyPoll is called before a wait. While a single session is served it polls for a moment, as long
// as that mostly pays off: with one client, sleeping and waking up is half of what a proxy costs.
// With several sessions, and on a machine with one core, their servers need the core.
func (w *worker) busyPoll() bool {
	if !w.mayBusyPoll || w.ready != 1 || w.alone < soloTurns {
		return false
	}
	s := &w.spins[w.events[0].Fd&serverBit]
	return s.worth() && s.note(w.pollFor(spinTime))
}

// pollFor polls without waiting until d is over.
func (w *worker) pollFor(d time.Duration) bool {
	for began := time.Now(); time.Since(began) < d; {
		if w.pollNow(uintptr(w.q.fd)) {
			return true
		}
	}
	return false
}

// pollNow takes a batch of events, without waiting.
func (w *worker) pollNow(fd uintptr) bool {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, fd, uintptr(unsafe.Pointer(&w.events[0])), batch, 0, 0, 0)
	w.ready = 0
	if errno == 0 {
		w.ready = int(n)
	}
	return w.ready > 0
}
