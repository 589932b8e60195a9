package wire_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/proxy/wire"
)

func packet(words ...any) []byte {
	body := []byte{0, 0, 0, 0}
	for _, w := range words {
		switch w := w.(type) {
		case uint32:
			body = binary.BigEndian.AppendUint32(body, w)
		case string:
			body = append(body, w...)
		}
	}
	binary.BigEndian.PutUint32(body, uint32(len(body)))
	return body
}

func TestReadStartup(t *testing.T) {
	t.Parallel()
	const cancel, ssl, gss = uint32(1234<<16 | 5678), uint32(1234<<16 | 5679), uint32(1234<<16 | 5680)
	longKey := strings.Repeat("k", wire.MaxCancelKey)
	for name, c := range map[string]struct {
		in   []byte
		want wire.Startup
		err  string
	}{
		"3.0":                {in: packet(wire.Version30, "user\x00u\x00database\x00d\x00\x00"), want: wire.Startup{Kind: wire.KindStartup, Version: wire.Version30, Params: []wire.Param{{"user", "u"}, {"database", "d"}}}},
		"no parameters":      {in: packet(wire.Version30, "\x00"), want: wire.Startup{Kind: wire.KindStartup, Version: wire.Version30}},
		"3.2":                {in: packet(wire.Version32, "user\x00u\x00\x00"), want: wire.Startup{Kind: wire.KindStartup, Version: wire.Version32, Params: []wire.Param{{"user", "u"}}}},
		"3.9999":             {in: packet(uint32(3<<16|9999), "_pq_.x\x00\x00\x00"), want: wire.Startup{Kind: wire.KindStartup, Version: 3<<16 | 9999, Params: []wire.Param{{"_pq_.x", ""}}}},
		"2.0":                {in: packet(uint32(2<<16), "\x00"), err: "unsupported frontend protocol 2.0"},
		"ssl":                {in: packet(ssl), want: wire.Startup{Kind: wire.KindSSL}},
		"ssl, too long":      {in: packet(ssl, "x"), err: "encryption request"},
		"gss":                {in: packet(gss), want: wire.Startup{Kind: wire.KindGSSENC}},
		"cancel":             {in: packet(cancel, uint32(7), "\x00\x01\x02\x03"), want: wire.Startup{Kind: wire.KindCancel, CancelPID: 7, CancelKey: []byte{0, 1, 2, 3}}},
		"cancel, long key":   {in: packet(cancel, uint32(7), longKey), want: wire.Startup{Kind: wire.KindCancel, CancelPID: 7, CancelKey: []byte(longKey)}},
		"cancel, no key":     {in: packet(cancel, uint32(7)), err: "cancel request"},
		"cancel, longer key": {in: packet(cancel, uint32(7), longKey+"k"), err: "cancel request"},
		"direct TLS":         {in: []byte{0x16, 3, 1}, want: wire.Startup{Kind: wire.KindDirectTLS, Peeked: []byte{0x16}}},
		"too short":          {in: []byte{0, 0, 0, 7, 0, 3, 0, 0}, err: "invalid length of startup packet: 7"},
		"too long":           {in: []byte{0, 0, 0x27, 0x11, 0, 3, 0, 0}, err: "invalid length of startup packet: 10001"},
		"huge":               {in: []byte{0x7f, 0xff, 0xff, 0xff}, err: "invalid length"},
		"negative":           {in: []byte{0xff, 0xff, 0xff, 0xff}, err: "invalid length"},
		"empty":              {in: nil, err: "EOF"},
		"cut":                {in: packet(wire.Version30, "user\x00u\x00\x00")[:12], err: "unexpected EOF"},
		"no terminator":      {in: packet(wire.Version30, "user\x00u\x00"), err: "without terminator"},
		"no value":           {in: packet(wire.Version30, "user\x00"), err: "without value"},
		"no body":            {in: packet(wire.Version30), err: "without terminator"},
		"bytes behind":       {in: packet(wire.Version30, "user\x00u\x00\x00x"), err: "expected terminator"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := bytes.NewReader(append(bytes.Clone(c.in), "rest"...))
			if c.err == "EOF" || c.err == "unexpected EOF" {
				r = bytes.NewReader(c.in)
			}
			got, err := wire.ReadStartup(r)
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
			rest, _ := io.ReadAll(r)
			if got.Kind != wire.KindDirectTLS {
				require.Equal(t, "rest", string(rest), "not a byte more than the packet")
			}
		})
	}
}

func TestAppendStartup(t *testing.T) {
	t.Parallel()
	params := []wire.Param{{Name: "user", Value: "u"}, {Name: "options", Value: "-c a.b=c"}, {Name: "_pq_.z", Value: ""}}
	p, err := wire.AppendStartup([]byte("x"), wire.Version32, params)
	require.NoError(t, err)
	s, err := wire.ReadStartup(bytes.NewReader(p[1:]))
	require.NoError(t, err)
	require.Equal(t, params, s.Params)
	require.Equal(t, []string{"_pq_.z"}, s.Extensions())
	v, ok := s.Get("options")
	require.True(t, ok)
	require.Equal(t, "-c a.b=c", v)

	for _, bad := range []wire.Param{{Name: "a\x00b", Value: "c"}, {Name: "a", Value: "b\x00role\x00postgres"}, {Name: "", Value: "b"}, {Name: "a", Value: strings.Repeat("b", wire.MaxStartup)}} {
		out, err := wire.AppendStartup([]byte("x"), wire.Version30, []wire.Param{bad})
		require.Error(t, err)
		require.Equal(t, "x", string(out))
	}
	for _, p := range [][]byte{wire.AppendSSLRequest(nil), wire.AppendCancel(nil, 1, []byte("abcd"))} {
		_, err := wire.ReadStartup(bytes.NewReader(p))
		require.NoError(t, err)
	}
}

func TestNegotiate(t *testing.T) {
	t.Parallel()
	p := wire.AppendNegotiate(nil, wire.Version32, []string{"_pq_.a", "_pq_.b"})
	n, err := wire.DecodeNegotiate(p[5:])
	require.NoError(t, err)
	require.Equal(t, wire.Negotiation{Version: wire.Version32, Unsupported: []string{"_pq_.a", "_pq_.b"}}, n)
	n, err = wire.DecodeNegotiate([]byte{0, 0, 0, 0, 0, 0, 0, 0})
	require.NoError(t, err)
	require.Equal(t, wire.Version30, n.Version)
	_, err = wire.DecodeNegotiate([]byte{0, 3, 0, 0, 0xff, 0xff, 0xff, 0xff})
	require.ErrorIs(t, err, wire.ErrMalformed)
}
