package copy

import (
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// drain reads a relay to its end.
func drain(r *relay) (got []byte, err error) {
	for {
		b, err := r.next()
		if err != nil {
			return got, err
		}
		got = append(got, b[headerBytes:]...)
		r.recycle(b)
	}
}

func TestRelayKeepsEveryByteInOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		writes := rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 0, 40)).Draw(t, "writes")
		var want []byte
		moved := 0
		r := newRelay(newBuffers(rapid.IntRange(1, 30).Draw(t, "size")), func(n int) { moved += n })
		done := make(chan struct{})
		go func() {
			defer close(done)
			for _, w := range writes {
				_, _ = r.Write(w)
			}
			_ = r.closeWith(io.EOF)
		}()
		for _, w := range writes {
			want = append(want, w...)
		}
		got, err := drain(r)
		<-done
		if err != io.EOF || string(got) != string(want) || moved != len(want) {
			t.Fatalf("got %d bytes and %v, want %d", len(got), err, len(want))
		}
	})
}

func TestRelayThatYieldsNeverEndsWell(t *testing.T) {
	t.Parallel()
	r := newRelay(newBuffers(4), func(int) {})
	done := make(chan error, 1)
	go func() {
		_, _ = r.Write([]byte("more than both buffers hold"))
		_, _ = r.Write([]byte("and a later row"))
		done <- r.closeWith(io.EOF)
	}()
	b, err := r.next()
	require.NoError(t, err)
	r.discard()
	r.discard()
	require.ErrorIs(t, <-done, errYielded)
	got := append([]byte{}, b[headerBytes:]...)
	r.recycle(b)
	rest, err := drain(r)
	require.ErrorIs(t, err, errYielded)
	require.Equal(t, "more than both buffers hold"[:len(got)+len(rest)], string(got)+string(rest), "a hole in the stream")
}

func TestRelayReleasesItsWriterWhenTheReaderIsGone(t *testing.T) {
	t.Parallel()
	r := newRelay(newBuffers(2), func(int) {})
	r.readerGone()
	_, err := r.Write(make([]byte, 100))
	require.ErrorIs(t, err, errReaderGone)
	failed := errors.New("lost")
	require.ErrorIs(t, r.closeWith(failed), failed)
}
