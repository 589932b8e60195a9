package poll

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// maxEvents is how many sockets one poll of the kernel's list returns. Each gets one read and one
// write of at most BufferSize before the next poll, so that no session keeps another waiting for
// longer than that.
const maxEvents = 128

// Engine is one epoll instance and the goroutine that serves its sessions. The
// instance itself is known to the runtime's poller: an engine with nothing to do is a
// goroutine that waits like any other, and wakes on the thread that polls.
//
// A session's own lock is taken before mu.
type Engine struct {
	file *os.File // the epoll instance
	fd   int
	raw  syscall.RawConn
	try  func(fd uintptr) bool // pollNow, bound once: a method value allocates

	events    [maxEvents]syscall.EpollEvent
	ready     int
	spins     [2]spin       // one for each kind of socket that the last poll brought: a client's, a server's
	last      uint64        // the key that had the last turn
	alone     int           // consecutive turns of that session
	spinSlots chan struct{} // has a place for each engine that may busy-poll

	mu struct {
		sync.Mutex
		attached map[uint64]Turner
		next     uint64
	}
}

func newEngine(spinSlots chan struct{}) (*Engine, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll instance: %w", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("make an epoll instance: %w", err)
	}
	e := &Engine{fd: fd, file: os.NewFile(uintptr(fd), "epoll"), spinSlots: spinSlots}
	e.try = e.pollNow
	e.mu.attached = map[uint64]Turner{}
	if e.raw, err = e.file.SyscallConn(); err == nil {
		err = e.file.SetReadDeadline(time.Time{}) // refused for what the runtime cannot poll
	}
	if err != nil {
		_ = e.file.Close()
		return nil, fmt.Errorf("have the runtime poll an epoll instance: %w", err)
	}
	return e, nil
}

// The low bit of an event's data says whether it is the server's socket, the rest is the session's
// key. A key is never used again by the same engine, so a late event finds no session.
const serverBit = 1

// Add watches two sockets and returns the key by which the engine knows the session, 0 for none.
func (e *Engine) Add(r Turner, client, server int) uint64 {
	e.mu.Lock()
	e.mu.next++
	key := e.mu.next
	e.mu.attached[key] = r
	e.mu.Unlock()
	if e.watch(client, key<<1) != nil {
		e.forget(key)
		return 0
	}
	if e.watch(server, key<<1|serverBit) != nil {
		_ = syscall.EpollCtl(e.fd, syscall.EPOLL_CTL_DEL, client, nil)
		e.forget(key)
		return 0
	}
	return key
}

func (e *Engine) watch(fd int, data uint64) error {
	ev := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(data), Pad: int32(data >> 32)}
	return syscall.EpollCtl(e.fd, syscall.EPOLL_CTL_ADD, fd, &ev)
}

func (e *Engine) forget(key uint64) {
	e.mu.Lock()
	delete(e.mu.attached, key)
	e.mu.Unlock()
}

// sessions is how many sessions it has.
func (e *Engine) sessions() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.mu.attached)
}

func (e *Engine) Remove(key uint64, client, server int) {
	_ = syscall.EpollCtl(e.fd, syscall.EPOLL_CTL_DEL, client, nil)
	_ = syscall.EpollCtl(e.fd, syscall.EPOLL_CTL_DEL, server, nil)
	e.forget(key)
}

// run serves events until close.
func (e *Engine) run() {
	for e.await() {
		for i := range e.ready {
			ev := &e.events[i]
			data := uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32
			if e.alone++; e.last != data>>1 {
				e.last, e.alone = data>>1, 0
			}
			e.mu.Lock()
			r := e.mu.attached[data>>1]
			e.mu.Unlock()
			if r != nil {
				r.Turn(data>>1, data&serverBit != 0)
			}
		}
	}
}

// await waits for sockets with something to read; false says that the engine is closed.
//
// An engine that has just served several sockets lets the other processes of its core run before it
// polls for the last time: on a busy machine these have the next requests and answers ready by
// then, and nothing has to be put to sleep and woken.
//
// An engine that serves a single session busy-polls for a moment, as long as that mostly pays off:
// with one client, sleeping and waking up is half of what a proxy costs. With several sessions,
// their servers need the core.
func (e *Engine) await() bool {
	switch {
	case e.ready > 1:
		if e.pollNow(uintptr(e.fd)) {
			return true
		}
		_, _, _ = syscall.RawSyscall(syscall.SYS_SCHED_YIELD, 0, 0, 0)
	case e.ready == 1 && e.alone >= soloTurns:
		if s := &e.spins[e.events[0].Fd&serverBit]; s.worth() && e.busyPoll(s) {
			return true
		}
	}
	return e.raw.Read(e.try) == nil
}

// busyPoll polls for spinTime, unless as many engines as may are doing so already.
func (e *Engine) busyPoll(s *spin) bool {
	select {
	case e.spinSlots <- struct{}{}:
		defer func() { <-e.spinSlots }()
		return s.note(e.pollFor(spinTime))
	default:
		return false
	}
}

// pollFor polls without waiting until d is over.
func (e *Engine) pollFor(d time.Duration) bool {
	for began := time.Now(); time.Since(began) < d; {
		if e.pollNow(uintptr(e.fd)) {
			return true
		}
	}
	return false
}

// pollNow takes the list of sockets with something to read, without waiting.
func (e *Engine) pollNow(fd uintptr) bool {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, fd, uintptr(unsafe.Pointer(&e.events[0])), maxEvents, 0, 0, 0)
	e.ready = 0
	if errno == 0 {
		e.ready = int(n)
	}
	return e.ready > 0
}

// close ends run. No session may be attached any more.
func (e *Engine) close() { _ = e.file.Close() }
