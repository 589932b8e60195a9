package wire_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

// A script is a list of words: ">X" is a frame of the client, "<X" one of the server, "=" asserts a
// boundary and "!reason" the reason why there is none (blanks written as _). ">Pu" and ">Cu" are of
// the unnamed statement, "<ZT" has the status T.
func runScript(t *testing.T, tr *wire.Tracker, script string, cut int) {
	t.Helper()
	for i, word := range strings.Fields(script) {
		at := fmt.Sprintf("word %d %q of %q", i, word, script)
		switch word[0] {
		case '=':
			require.Equal(t, "", tr.Reason(), at)
			require.True(t, tr.Boundary(), at)
		case '!':
			require.Equal(t, strings.ReplaceAll(word[1:], "_", " "), tr.Reason(), at)
			require.False(t, tr.Boundary(), at)
		case '>':
			feed(t, tr.Client, clientFrame(word[1:]), cut, at)
		case '<':
			feed(t, tr.Server, serverFrame(word[1:]), cut, at)
		default:
			t.Fatalf("bad %s", at)
		}
	}
}

// fed is the error of Tracker.Client and Tracker.Server.
func fed(_ []byte, err error) error { return err }

func feed(t *testing.T, to func([]byte) ([]byte, error), p []byte, cut int, at string) {
	t.Helper()
	for len(p) > 0 {
		n := min(cut, len(p))
		out, err := to(p[:n])
		require.NoError(t, err, at)
		require.Equal(t, p[:n], out, at)
		p = p[n:]
	}
}

func clientFrame(w string) []byte {
	switch w {
	case "Q":
		return wiretest.AppendQuery(nil, "select 1")
	case "P":
		return wire.AppendParse(nil, "s1", "select 1", nil)
	case "Pu":
		return wire.AppendParse(nil, "", "select 1", nil)
	case "B":
		return wire.AppendBind(nil, "", "", nil, [][]byte{[]byte("x"), nil}, nil)
	case "D":
		return wire.AppendDescribe(nil, 'S', "")
	case "E":
		return wire.AppendExecute(nil, "", 0)
	case "C":
		return wire.AppendClose(nil, 'S', "s1")
	case "Cu":
		return wire.AppendClose(nil, 'S', "")
	case "S":
		return wire.AppendSync(nil)
	case "H":
		return wiretest.AppendFlush(nil)
	case "X":
		return wire.AppendTerminate(nil)
	case "F":
		return wire.AppendFrame(nil, 'F', make([]byte, 10))
	case "d":
		return wire.AppendFrame(nil, 'd', []byte("1\n"))
	case "c":
		return wire.AppendFrame(nil, 'c', nil)
	case "f":
		return wire.AppendFrame(nil, 'f', []byte("no\x00"))
	}
	return wire.AppendFrame(nil, w[0], nil)
}

func serverFrame(w string) []byte {
	switch w {
	case "Z":
		return wire.AppendReadyForQuery(nil, 'I')
	case "ZT", "ZE":
		return wire.AppendReadyForQuery(nil, w[1])
	case "C":
		return wire.AppendFrame(nil, 'C', []byte("SELECT 1\x00"))
	case "E":
		return wire.AppendError(nil, &wire.ServerError{Severity: "ERROR", Code: "22012", Message: "no"})
	case "S":
		return wire.AppendParameterStatus(nil, "TimeZone", "UTC")
	case "N":
		return wiretest.AppendNotice(nil, &wire.ServerError{Severity: "NOTICE", Message: "hm"})
	case "A":
		return wiretest.AppendNotification(nil, 1, "c", "p")
	case "G", "H", "W":
		return wire.AppendFrame(nil, w[0], []byte{0, 0, 1, 0, 0})
	case "T":
		return wire.AppendFrame(nil, 'T', []byte{0, 0})
	case "D":
		return wire.AppendFrame(nil, 'D', []byte{0, 1, 0, 0, 0, 1, '1'})
	}
	return wire.AppendFrame(nil, w[0], nil)
}
