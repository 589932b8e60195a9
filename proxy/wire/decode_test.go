package wire_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/proxy/wire"
)

// decoders has every decoder; what they return is of no interest to a fuzzer.
var decoders = map[string]func([]byte) error{
	"Parse":                func(b []byte) error { _, err := wire.DecodeParse(b); return err },
	"ParameterStatus":      func(b []byte) error { _, err := wire.DecodeParameterStatus(b); return err },
	"BackendKeyData":       func(b []byte) error { _, _, err := wire.DecodeBackendKeyData(b); return err },
	"Error":                func(b []byte) error { _, err := wire.DecodeError(b); return err },
	"RowDescription":       func(b []byte) error { _, err := wire.DecodeRowDescription(b); return err },
	"DataRow":              func(b []byte) error { _, err := wire.DecodeDataRow(nil, b); return err },
	"ReadyForQuery":        func(b []byte) error { _, err := wire.DecodeReadyForQuery(b); return err },
	"Negotiate":            func(b []byte) error { _, err := wire.DecodeNegotiate(b); return err },
	"Auth":                 func(b []byte) error { _, err := wire.DecodeAuth(b); return err },
	"Password":             func(b []byte) error { _, err := wire.DecodePassword(b); return err },
	"SASLInitial":          func(b []byte) error { _, _, err := wire.DecodeSASLInitial(b); return err },
	"ParameterDescription": func(b []byte) error { _, err := wire.DecodeParameterDescription(b); return err },
}

// samples has a good body for each decoder.
var samples = map[string][]byte{
	"Parse":                wire.AppendParse(nil, "s", "select $1", []uint32{23, 25})[5:],
	"ParameterStatus":      wire.AppendParameterStatus(nil, "TimeZone", "UTC")[5:],
	"BackendKeyData":       wire.AppendBackendKeyData(nil, 77, []byte("secr"))[5:],
	"Error":                wire.AppendError(nil, &wire.ServerError{Severity: "ERROR", Code: "22012", Message: "m", Position: 3, Line: 9})[5:],
	"RowDescription":       append([]byte{0, 1, 'a', 0}, make([]byte, 18)...),
	"DataRow":              {0, 2, 0, 0, 0, 1, 'x', 0xff, 0xff, 0xff, 0xff},
	"ReadyForQuery":        {'T'},
	"Negotiate":            wire.AppendNegotiate(nil, wire.Version30, []string{"_pq_.a"})[5:],
	"Auth":                 wire.AppendAuthSASL(nil, "A", "B")[5:],
	"Password":             []byte("pw\x00"),
	"SASLInitial":          wire.AppendSASLInitial(nil, "M", []byte("abc"))[5:],
	"ParameterDescription": {0, 1, 0, 0, 0, 23},
}

// TestDecodersRefuse: no cut and no trailing byte is taken, and no single changed byte panics.
func TestDecodersRefuse(t *testing.T) {
	t.Parallel()
	for name, decode := range decoders {
		body, ok := samples[name]
		require.True(t, ok, name)
		require.NoError(t, decode(body), name)
		for n := range body {
			require.ErrorIs(t, decode(body[:n]), wire.ErrMalformed, "%s cut to %d bytes", name, n)
		}
		if name != "BackendKeyData" { // its key ends with the message
			require.ErrorIs(t, decode(append(body[:len(body):len(body)], 1)), wire.ErrMalformed, name)
		}
		for n := range body {
			for _, b := range []byte{0, 1, 0x7f, 0x80, 0xff} {
				changed := append([]byte(nil), body...)
				changed[n] = b
				_ = decode(changed)
			}
		}
	}
}

// TestDecodersNegativeLengths are the bodies on which pgproto3/v2 panics or does not return.
func TestDecodersNegativeLengths(t *testing.T) {
	t.Parallel()
	_, err := wire.DecodeDataRow(nil, []byte{0, 1, 0xff, 0xff, 0xff, 0xfe})
	require.ErrorIs(t, err, wire.ErrMalformed)
	_, _, err = wire.DecodeSASLInitial([]byte("M\x00"))
	require.ErrorIs(t, err, wire.ErrMalformed)
	_, err = wire.DecodeAuth([]byte{0, 0, 0, 10, 'A', 'B', 'C'})
	require.ErrorIs(t, err, wire.ErrMalformed)
}

func TestDecodedValues(t *testing.T) {
	t.Parallel()
	p, err := wire.DecodeParse(samples["Parse"])
	require.NoError(t, err)
	require.Equal(t, wire.Parse{Name: "s", Query: "select $1", OIDs: []uint32{23, 25}}, p)
	pid, key, err := wire.DecodeBackendKeyData(samples["BackendKeyData"])
	require.NoError(t, err)
	require.EqualValues(t, 77, pid)
	require.Equal(t, "secr", string(key))
	row, err := wire.DecodeDataRow(nil, samples["DataRow"])
	require.NoError(t, err)
	require.Equal(t, [][]byte{[]byte("x"), nil}, row)
	a, err := wire.DecodeAuth(samples["Auth"])
	require.NoError(t, err)
	require.Equal(t, []string{"A", "B"}, a.Mechanisms)
	a, err = wire.DecodeAuth(wire.AppendAuthMD5(nil, [4]byte{1, 2, 3, 4})[5:])
	require.NoError(t, err)
	require.Equal(t, wire.Auth{Kind: wire.AuthMD5, Salt: [4]byte{1, 2, 3, 4}}, a)
	a, err = wire.DecodeAuth([]byte{0, 0, 0, 7})
	require.NoError(t, err, "an unknown kind is for the caller to name")
	require.EqualValues(t, 7, a.Kind)
	m, data, err := wire.DecodeSASLInitial([]byte("M\x00\xff\xff\xff\xff"))
	require.NoError(t, err)
	require.Equal(t, "M", m)
	require.Nil(t, data)
	oids, err := wire.DecodeParameterDescription(samples["ParameterDescription"])
	require.NoError(t, err)
	require.Equal(t, []uint32{23}, oids)
}

func TestServerError(t *testing.T) {
	t.Parallel()
	in := &wire.ServerError{
		Severity: "FATAL", Code: "57P01", Message: "m", Detail: "d", Hint: "h", Position: 4, Where: "w", Schema: "s", Table: "t",
		Column: "c", DataType: "dt", Constraint: "co", File: "f", Line: 7, Routine: "r",
	}
	out, err := wire.DecodeError(wire.AppendError(nil, in)[5:])
	require.NoError(t, err)
	require.Equal(t, in, out)
	require.True(t, out.Fatal())
	require.Equal(t, "FATAL: m (SQLSTATE 57P01)", out.Error())
	empty, err := wire.DecodeError([]byte{0})
	require.NoError(t, err)
	require.Equal(t, "error without a message", empty.Error())
}

// TestEncodersCutAtNUL: no text of a caller becomes a further field.
func TestEncodersCutAtNUL(t *testing.T) {
	t.Parallel()
	p, err := wire.DecodeParse(wire.AppendParse(nil, "a\x00b", "c\x00d", nil)[5:])
	require.NoError(t, err)
	require.Equal(t, wire.Parse{Name: "a", Query: "c"}, p)
	s, err := wire.DecodeParameterStatus(wire.AppendParameterStatus(nil, "a\x00b", "c\x00d")[5:])
	require.NoError(t, err)
	require.Equal(t, wire.Param{Name: "a", Value: "c"}, s)
	e, err := wire.DecodeError(wire.AppendError(nil, &wire.ServerError{Message: "a\x00Cb"})[5:])
	require.NoError(t, err)
	require.Equal(t, &wire.ServerError{Message: "a"}, e)
}
