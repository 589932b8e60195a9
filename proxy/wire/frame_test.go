package wire_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"crossfade/proxy/wire"
)

func TestReader(t *testing.T) {
	t.Parallel()
	large := bytes.Repeat([]byte("z"), 100_000)
	in := frames(wire.AppendFrame(nil, 'S', []byte("a")), wire.AppendFrame(nil, 'd', large), wire.AppendFrame(nil, 'Z', nil))
	for name, r := range map[string]io.Reader{
		"whole": bytes.NewReader(append(bytes.Clone(in), "rest"...)),
		"bytes": iotest.OneByteReader(bytes.NewReader(append(bytes.Clone(in), "rest"...))),
		"halfs": iotest.HalfReader(bytes.NewReader(append(bytes.Clone(in), "rest"...))),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fr := wire.NewReader(r, 0)
			for _, want := range []wire.Frame{{Type: 'S', Body: []byte("a")}, {Type: 'd', Body: large}, {Type: 'Z', Body: []byte{}}} {
				f, err := fr.Next()
				require.NoError(t, err)
				require.Equal(t, want.Type, f.Type)
				require.True(t, bytes.Equal(want.Body, f.Body))
			}
			rest, err := io.ReadAll(io.MultiReader(bytes.NewReader(bytes.Clone(fr.Buffered())), r))
			require.NoError(t, err)
			require.Equal(t, "rest", string(rest))
		})
	}
}

// failing yields its error once, between the bytes.
type failing struct {
	r   io.Reader
	n   int
	err error
}

func (f *failing) Read(p []byte) (int, error) {
	if f.n--; f.n == 0 {
		return 0, f.err
	}
	return f.r.Read(p[:min(2, len(p))])
}

func TestReaderGoesOn(t *testing.T) {
	t.Parallel()
	late := errors.New("deadline")
	r := wire.NewReader(&failing{r: bytes.NewReader(wire.AppendFrame(nil, 'S', []byte("abc"))), n: 3, err: late}, 0)
	_, err := r.Next()
	require.ErrorIs(t, err, late)
	f, err := r.Next()
	require.NoError(t, err)
	require.Equal(t, "abc", string(f.Body))
	_, err = r.Next()
	require.Equal(t, io.EOF, err)
}

func TestReaderLimits(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"d\x00\x00\x00\x03", "d\x00\x00\x00\x0f0123456789a", "d\xff\xff\xff\xff", "d\x7f\xff\xff\xff"} {
		_, err := wire.NewReader(bytes.NewReader([]byte(in)), 10).Next()
		require.ErrorIs(t, err, wire.ErrMalformed)
		_, err = wire.ReadFrame(bytes.NewReader([]byte(in)), 10)
		require.ErrorIs(t, err, wire.ErrMalformed)
	}
	_, err := wire.NewReader(bytes.NewReader([]byte("d\x00\x00\x00\x08ab")), 10).Next()
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	// A gigabyte that is only announced is not taken.
	r := wire.NewReader(bytes.NewReader([]byte("d\x3f\xff\xff\xffab")), 1<<30)
	_, err = r.Next()
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Less(t, cap(r.Buffered()), 64<<10)
}

func TestReadFrameIsExact(t *testing.T) {
	t.Parallel()
	r := bytes.NewReader(append(wire.AppendPassword(nil, "pw"), "rest"...))
	f, err := wire.ReadFrame(r, 100)
	require.NoError(t, err)
	require.Equal(t, wire.Frame{Type: 'p', Body: []byte("pw\x00")}, f)
	rest, _ := io.ReadAll(r)
	require.Equal(t, "rest", string(rest))
}
