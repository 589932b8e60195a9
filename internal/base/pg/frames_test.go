package pg

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"
	"testing/iotest"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func message(kind byte, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4)), body...)
}

// scattered gives the bytes in reads of the given sizes, over and over.
type scattered struct {
	sizes []int
	left  []byte
}

func (s *scattered) Read(p []byte) (int, error) {
	if len(s.left) == 0 {
		return 0, io.EOF
	}
	n := min(s.sizes[0], len(p), len(s.left))
	s.sizes = append(s.sizes[1:], s.sizes[0])
	copy(p, s.left[:n])
	s.left = s.left[n:]
	return n, nil
}

// Rows are taken past the driver, everything else reaches it, and neither sees a
// byte of the other's.
func TestFramesPartRowsFromMessages(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var wire, want []byte
		var tags []string
		for range rapid.IntRange(1, 12).Draw(t, "messages") {
			if tag := rapid.StringMatching("[A-Z ]{0,30}").Draw(t, "tag"); rapid.Bool().Draw(t, "tagged") {
				tags = append(tags, tag)
				wire = append(wire, message('C', append([]byte(tag), 0))...)
				continue
			}
			row := bytes.Repeat([]byte{byte(len(want))}, rapid.SampledFrom([]int{0, 1, 5, 100, 9000, 300_000}).Draw(t, "row"))
			want = append(want, row...)
			wire = append(wire, message('d', row)...)
		}
		f := &Frames{r: &scattered{rapid.SliceOfN(rapid.IntRange(1, 20000), 1, 10).Draw(t, "reads"), wire}}
		driver := pgproto3.NewFrontend(f, io.Discard)
		var rows []byte
		size := rapid.IntRange(100, 100_000).Draw(t, "buffer")
		for n := 0; ; {
			out, more, err := f.AppendData(make([]byte, 0, size))
			rows = append(rows, out...)
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			if more {
				require.Len(t, out, size)
				continue
			}
			msg, err := driver.Receive()
			require.NoError(t, err)
			require.Equal(t, tags[n], string(msg.(*pgproto3.CommandComplete).CommandTag))
			n++
		}
		require.True(t, bytes.Equal(want, rows))
	})
}

func TestFramesRefuseLengthsThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, length := range []uint32{0, 3, 0x80000000, 0xffffffff} {
		f := &Frames{r: bytes.NewReader(binary.BigEndian.AppendUint32([]byte{'d'}, length))}
		_, _, err := f.AppendData(make([]byte, 0, 10))
		require.ErrorContains(t, err, "has the length")
	}
}

func TestFramesGoOnAfterATimeout(t *testing.T) {
	t.Parallel()
	f := &Frames{r: iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(message('d', []byte("row")))))}
	var got []byte
	for range 2 {
		out, _, err := f.AppendData(make([]byte, 0, 3))
		if err != nil {
			require.ErrorIs(t, err, iotest.ErrTimeout)
		}
		got = append(got, out...)
	}
	require.Equal(t, "row", string(got))
}
