package stream

// slabSize is how many elements a slab takes from the heap at once: enough that
// the heap is asked once in some hundred messages, few enough that a small
// transaction that outlives its neighbours holds little.
const slabSize = 2048

// slab hands out slices of T from larger allocations. The garbage collector
// frees an allocation when the last slice of it is unreachable.
type slab[T any] struct{ free []T }

// take returns n zeroed elements that nobody else has.
func (s *slab[T]) take(n int) []T {
	if n > slabSize/4 {
		return make([]T, n)
	}
	if n > len(s.free) {
		s.free = make([]T, slabSize)
	}
	v := s.free[:n:n]
	s.free = s.free[n:]
	return v
}

// blockSize is the allocation unit of message bytes.
const blockSize = 64 << 10

// arena hands out memory for message bytes in the same way.
type arena struct{ free []byte }

func (a *arena) take(n int) []byte {
	if n > blockSize/4 {
		return make([]byte, n)
	}
	if n > len(a.free) {
		a.free = make([]byte, blockSize)
	}
	b := a.free[:n:n]
	a.free = a.free[n:]
	return b
}
