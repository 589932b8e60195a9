package wire_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/proxy/wire"
)

// TestEveryDecoderIsFuzzed: FuzzDecode runs every exported Decode function.
func TestEveryDecoderIsFuzzed(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	found := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv != nil {
				continue
			}
			if what, ok := strings.CutPrefix(f.Name.Name, "Decode"); ok {
				found++
				require.Contains(t, decoders, what)
				require.Contains(t, samples, what)
			}
		}
	}
	require.Equal(t, len(decoders), found)
}

// FuzzRoundTrip: what is decoded and encoded again is what it was, for the messages that
// hold nothing else. A decoder that took another length than a peer takes would show.
func FuzzRoundTrip(f *testing.F) {
	for _, name := range []string{"Parse", "ParameterStatus", "BackendKeyData", "Notification", "Negotiate", "SASLInitial", "Password"} {
		f.Add(samples[name])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		check := func(what string, frame []byte) {
			if !bytes.Equal(frame[5:], body) {
				t.Fatalf("%s %q becomes %q", what, body, frame[5:])
			}
		}
		if m, err := wire.DecodeParse(body); err == nil {
			check("Parse", wire.AppendParse(nil, m.Name, m.Query, m.OIDs))
		}
		if m, err := wire.DecodeParameterStatus(body); err == nil {
			check("ParameterStatus", wire.AppendParameterStatus(nil, m.Name, m.Value))
		}
		if pid, key, err := wire.DecodeBackendKeyData(body); err == nil {
			check("BackendKeyData", wire.AppendBackendKeyData(nil, pid, key))
		}
		if m, err := wire.DecodeNegotiate(body); err == nil && bytes.HasPrefix(body, []byte{0, 3}) {
			check("NegotiateProtocolVersion", wire.AppendNegotiate(nil, m.Version, m.Unsupported))
		}
		if mechanism, data, err := wire.DecodeSASLInitial(body); err == nil && data != nil {
			check("SASLInitialResponse", wire.AppendSASLInitial(nil, mechanism, data))
		}
		if s, err := wire.DecodePassword(body); err == nil {
			check("PasswordMessage", wire.AppendPassword(nil, s))
		}
		if row, err := wire.DecodeDataRow(nil, body); err == nil && len(row) > len(body) {
			t.Fatalf("%d values in %d bytes", len(row), len(body))
		}
	})
}

// FuzzReadFrame: it takes one frame and not a byte more, as the reader that may read ahead sees it.
func FuzzReadFrame(f *testing.F) {
	f.Add(append(wire.AppendReadyForQuery(nil, 'I'), "more"...))
	f.Add([]byte("d\x7f\xff\xff\xffabc"))
	f.Add([]byte("d\x00\x00\x00\x03"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		one, err := wire.ReadFrame(r, 1<<16)
		other, err2 := wire.NewReader(bytes.NewReader(in), 1<<16).Next()
		if (err == nil) != (err2 == nil) {
			t.Fatalf("%v, and %v", err, err2)
		}
		if err != nil {
			return
		}
		if one.Type != other.Type || !bytes.Equal(one.Body, other.Body) {
			t.Fatalf("%q, and %q", one.Body, other.Body)
		}
		rest, _ := io.ReadAll(r)
		if len(rest) != len(in)-5-len(one.Body) {
			t.Fatalf("%d bytes of %d are left behind a body of %d", len(rest), len(in), len(one.Body))
		}
	})
}
