package poll

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// queue is an epoll instance: the kernel's list of sockets that have become readable, from which
// all workers take. Events are edge-triggered, so that each is taken by one worker.
//
// A session's own lock is taken before mu.
type queue struct {
	file *os.File // the epoll instance, which the runtime's poller knows too
	fd   int
	raw  syscall.RawConn

	wake    chan struct{} // has a worker that sleeps take from the queue
	done    chan struct{}
	workers sync.WaitGroup

	mu struct {
		sync.Mutex
		attached map[uint64]*attached
		next     uint64
	}
}

// newQueue makes a queue and starts its workers.
func newQueue(workers int) (*queue, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll instance: %w", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("make an epoll instance: %w", err)
	}
	q := &queue{fd: fd, file: os.NewFile(uintptr(fd), "epoll"), wake: make(chan struct{}, 1), done: make(chan struct{})}
	q.mu.attached = map[uint64]*attached{}
	if q.raw, err = q.file.SyscallConn(); err == nil {
		err = q.file.SetReadDeadline(time.Time{}) // refused for what the runtime cannot poll
	}
	if err != nil {
		_ = q.file.Close()
		return nil, fmt.Errorf("have the runtime poll an epoll instance: %w", err)
	}
	q.workers.Go((&worker{q: q, mayBusyPoll: workers > 1}).run)
	for range workers - 1 {
		q.workers.Go((&worker{q: q}).help)
	}
	return q, nil
}

// close ends the workers. No session may be attached any more.
func (q *queue) close() {
	close(q.done)
	_ = q.file.SetReadDeadline(time.Unix(1, 0))
	q.workers.Wait()
	_ = q.file.Close() // not before: the workers use its descriptor
}

// The low bit of an event's data says whether it is the server's socket, the rest is the session's
// key.
const serverBit = 1

func (q *queue) add(t Turner, client, server int) uint64 {
	q.mu.Lock()
	q.mu.next++
	key := q.mu.next
	q.mu.attached[key] = &attached{turner: t, key: key}
	q.mu.Unlock()
	if q.control(syscall.EPOLL_CTL_ADD, client, key<<1) != nil {
		q.forget(key)
		return 0
	}
	if q.control(syscall.EPOLL_CTL_ADD, server, key<<1|serverBit) != nil {
		q.remove(key, client, server)
		return 0
	}
	return key
}

func (q *queue) remove(key uint64, client, server int) {
	_ = syscall.EpollCtl(q.fd, syscall.EPOLL_CTL_DEL, client, nil)
	_ = syscall.EpollCtl(q.fd, syscall.EPOLL_CTL_DEL, server, nil)
	q.forget(key)
}

// again puts a socket that is readable at the end of the queue.
func (q *queue) again(key uint64, socket int, server bool) {
	data := key << 1
	if server {
		data |= serverBit
	}
	_ = q.control(syscall.EPOLL_CTL_MOD, socket, data)
}

func (q *queue) control(op, socket int, data uint64) error {
	const events = syscall.EPOLLIN | syscall.EPOLLRDHUP | 1<<31 // EPOLLET, a negative number in syscall
	return syscall.EpollCtl(q.fd, op, socket, &syscall.EpollEvent{Events: events, Fd: int32(data), Pad: int32(data >> 32)})
}

func (q *queue) forget(key uint64) {
	q.mu.Lock()
	delete(q.mu.attached, key)
	q.mu.Unlock()
}

// serve serves the session of one event.
func (q *queue) serve(ev *syscall.EpollEvent) {
	data := eventData(ev)
	q.mu.Lock()
	a := q.mu.attached[data>>1]
	q.mu.Unlock()
	if a == nil {
		return // removed after the event
	}
	what := uint32(clientReadable)
	if ev.Events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0 {
		what |= clientEnded
	}
	if data&serverBit != 0 {
		what *= serverReadable
	}
	a.serve(what)
}

func eventData(ev *syscall.EpollEvent) uint64 {
	return uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32
}

// attached is a session in the queue.
type attached struct {
	turner Turner
	key    uint64
	// due is what is to be served, with busy while a worker serves it: another one that takes an
	// event of the session leaves it to that worker.
	due atomic.Uint32
}

const (
	clientReadable = 1 << iota
	clientEnded
	serverReadable
	serverEnded
	busy
)

func (a *attached) serve(what uint32) {
	if a.due.Or(what|busy)&busy != 0 {
		return
	}
	for {
		due := a.due.Swap(busy)
		if due&serverReadable != 0 {
			a.turner.Turn(a.key, true, due&serverEnded != 0)
		}
		if due&clientReadable != 0 {
			a.turner.Turn(a.key, false, due&clientEnded != 0)
		}
		if a.due.CompareAndSwap(busy, 0) {
			return
		}
	}
}
