package relay

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// rows is a source of CopyData: each element is what one read of the socket has.
type rows [][]byte

func (s *rows) AppendData(dst []byte) ([]byte, bool, error) {
	for len(*s) > 0 {
		if len(dst) == cap(dst) {
			return dst, true, nil
		}
		n := min(len((*s)[0]), cap(dst)-len(dst))
		dst = append(dst, (*s)[0][:n]...)
		if (*s)[0] = (*s)[0][n:]; len((*s)[0]) == 0 {
			*s = (*s)[1:]
		}
	}
	return dst, false, nil
}

// drain reads a relay to its end: the rows of each table that was ended, and of
// the last one that was not.
func drain(r *Relay) (tables [][]byte, err error) {
	tables = [][]byte{nil}
	for {
		b, err := r.Next()
		if err != nil {
			return tables, err
		}
		tables = append(tables[:len(tables)-1], frames(tables[len(tables)-1], b)...)
		r.recycle(b)
	}
}

// frames takes the messages of one buffer apart, which must be whole.
func frames(table, b []byte) [][]byte {
	tables := [][]byte{table}
	for len(b) > 0 {
		n := int(binary.BigEndian.Uint32(b[1:headerBytes])) + 1
		if b[0] == 'c' {
			tables = append(tables, nil)
		} else {
			tables[len(tables)-1] = append(tables[len(tables)-1], b[headerBytes:n]...)
		}
		b = b[n:]
	}
	return tables
}

func TestRelayKeepsEveryByteInOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		tables := rapid.SliceOfN(rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 0, 40)), 1, 6).Draw(t, "tables")
		want := make([][]byte, len(tables))
		moved, total := 0, 0
		for i, table := range tables {
			for _, w := range table {
				want[i] = append(want[i], w...)
				total += len(w)
			}
		}
		r := New(NewBuffers(rapid.IntRange(1, 60).Draw(t, "size")), func(n int) { moved += n })
		done := make(chan struct{})
		go func() {
			defer close(done)
			for _, table := range tables {
				s := rows(slices.Clone(table))
				_ = r.take(&s)
				_ = r.done()
			}
			_ = r.closeWith(io.EOF)
		}()
		got, err := drain(r)
		<-done
		if err != io.EOF || len(got) != len(want)+1 || moved != total {
			t.Fatalf("got %d tables, %d bytes and %v, want %d and %d", len(got)-1, moved, err, len(want), total)
		}
		at := int64(0)
		for i := range want {
			at += int64(len(want[i]))
			if string(got[i]) != string(want[i]) || r.Ends[i] != at {
				t.Fatalf("table %d: got %q, want %q", i, got[i], want[i])
			}
		}
	})
}

func TestRelayThatYieldsNeverEndsWell(t *testing.T) {
	t.Parallel()
	r := New(NewBuffers(1), func(int) {})
	const text = "more than all buffers hold"
	done := make(chan error, 1)
	go func() {
		_ = r.take(&rows{[]byte(text)})
		_ = r.take(&rows{[]byte("and a later row")})
		done <- r.closeWith(io.EOF)
	}()
	b, err := r.Next()
	require.NoError(t, err)
	r.Discard()
	r.Discard()
	require.ErrorIs(t, <-done, ErrYielded)
	got := append([]byte{}, b[headerBytes:]...)
	r.recycle(b)
	rest, err := drain(r)
	require.ErrorIs(t, err, ErrYielded)
	require.Len(t, rest, 1)
	require.Equal(t, text[:len(got)+len(rest[0])], string(got)+string(rest[0]), "a hole in the stream")
}

func TestRelayReleasesItsWriterWhenTheReaderIsGone(t *testing.T) {
	t.Parallel()
	r := New(NewBuffers(2), func(int) {})
	r.readerGone()
	require.ErrorIs(t, r.take(&rows{make([]byte, 100)}), ErrReaderGone)
	failed := errors.New("lost")
	require.ErrorIs(t, r.closeWith(failed), failed)
}
