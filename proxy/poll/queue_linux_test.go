package poll

import (
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

// turns calls a function for each turn of a session.
type turns func(key uint64, server, ended bool)

func (t turns) Turn(key uint64, server, ended bool) { t(key, server, ended) }

// pair returns two sockets that are connected and do not block, closed with the test.
func pair(t *testing.T) (near, far int) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = syscall.Close(fds[0])
		_ = syscall.Close(fds[1])
	})
	return fds[0], fds[1]
}

func send(t *testing.T, fd int) {
	t.Helper()
	_, err := syscall.Write(fd, []byte{1})
	require.NoError(t, err)
}

// soon receives from c, or fails the test.
func soon[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(time.Minute):
		require.FailNow(t, "nothing came")
		panic("not reached")
	}
}

// TestABatchThatWaitsHoldsNoOtherSession: what one worker has taken waits for it, others serve the
// rest.
func TestABatchThatWaitsHoldsNoOtherSession(t *testing.T) {
	if runtime.GOMAXPROCS(0) < 2 {
		t.Skip("a machine with one core has one worker")
	}
	t.Parallel()
	var e Engine
	e.Start(zerolog.Nop())
	const others = 5
	began, served := make(chan int, 2), make(chan int, batch+others+1)
	release := make([]chan struct{}, 2)
	nears := make([]int, 1+batch+others)
	remove := make([]func(), len(nears))
	for i := range nears {
		near, far := pair(t)
		_, unused := pair(t)
		if nears[i] = near; i < len(release) {
			release[i] = make(chan struct{})
		}
		key := e.Add(turns(func(uint64, bool, bool) {
			if i < len(release) {
				began <- i
				<-release[i]
			}
			served <- i
		}), far, unused)
		require.NotZero(t, key)
		remove[i] = func() { e.Remove(key, far, unused) }
	}
	send(t, nears[0])
	require.Equal(t, 0, soon(t, began), "the worker that waits for events has a turn")
	for _, near := range nears[1:] {
		send(t, near)
	}
	close(release[0])
	require.Equal(t, 0, soon(t, served))
	require.Equal(t, 1, soon(t, began), "it is the first of a batch that waits")
	var got []int
	for range others {
		got = append(got, soon(t, served))
	}
	slices.Sort(got)
	require.Equal(t, []int{5, 6, 7, 8, 9}, got)
	close(release[1])
	for range batch {
		soon(t, served)
	}
	for _, r := range remove {
		r()
	}
	e.Stop()
}

// TestASessionHasOneTurnAtATime: an event that another worker takes meanwhile is served after the
// turn that runs, and not lost.
func TestASessionHasOneTurnAtATime(t *testing.T) {
	t.Parallel()
	type turn struct{ server, ended bool }
	var got []turn
	var a *attached
	var inTurn sync.Mutex
	a = &attached{key: 7, turner: turns(func(key uint64, server, ended bool) {
		require.True(t, inTurn.TryLock(), "no turn begins in another one")
		defer inTurn.Unlock()
		require.Equal(t, uint64(7), key)
		got = append(got, turn{server, ended})
		switch len(got) {
		case 1:
			a.serve(clientReadable)
			a.serve(serverReadable)
		case 2:
			a.serve(clientReadable | clientEnded)
		}
	})}
	a.serve(serverReadable)
	require.Equal(t, []turn{{server: true}, {server: true}, {}, {ended: true}}, got)
	a.serve(clientReadable)
	require.Len(t, got, 5, "the next event is served at once")
}

// TestASocketIsReportedOnce unless the turn asks for it again, and its end with it.
func TestASocketIsReportedOnce(t *testing.T) {
	t.Parallel()
	var e Engine
	e.Start(zerolog.Nop())
	near, far := pair(t)
	_, unused := pair(t)
	reported := make(chan bool, 10)
	again := true
	key := e.Add(turns(func(key uint64, server, ended bool) {
		require.False(t, server)
		if again {
			again = false
			e.Again(key, far, server)
		}
		reported <- ended
	}), far, unused)
	send(t, near)
	require.False(t, soon(t, reported))
	require.False(t, soon(t, reported), "the turn asked for it")
	require.NoError(t, syscall.Shutdown(near, syscall.SHUT_WR))
	require.True(t, soon(t, reported), "there is an end after the byte")
	e.Remove(key, far, unused)
	e.Stop()
	require.Empty(t, reported)
	require.False(t, e.Runs())
	require.Zero(t, e.Add(turns(nil), far, unused), "an engine that has stopped serves nothing")
}
