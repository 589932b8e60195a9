package wire_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/proxy/wire"
)

type notes struct{ got []string }

func (n *notes) Parse(body []byte) {
	if body == nil {
		n.got = append(n.got, "parse unknown")
		return
	}
	p, err := wire.DecodeParse(body)
	n.got = append(n.got, fmt.Sprintf("parse %s %v", p.Query, err))
}
func (n *notes) Simple()                     { n.got = append(n.got, "simple") }
func (n *notes) ParameterStatus(k, v []byte) { n.got = append(n.got, string(k)+"="+string(v)) }
func (n *notes) CommandComplete(tag []byte)  { n.got = append(n.got, string(tag)) }
func (n *notes) Refused()                    {}
func (n *notes) take() string                { s := strings.Join(n.got, "; "); n.got = nil; return s }
func unnamed(sql string) []byte              { return wire.AppendParse(nil, "", sql, nil) }
func frames(fs ...[]byte) []byte             { return bytes.Join(fs, nil) }
func client(words ...string) (out []byte)    { return all(clientFrame, words) }
func server(words ...string) (out []byte)    { return all(serverFrame, words) }
func all(f func(string) []byte, words []string) (out []byte) {
	for _, w := range words {
		out = append(out, f(w)...)
	}
	return out
}

func TestObserver(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", wire.MaxObservedParse)
	for name, c := range map[string]struct {
		client, server []byte
		want           string
	}{
		"unnamed parse":       {frames(unnamed("a"), client("S")), server("1", "Z"), "parse a <nil>"},
		"named parse":         {client("P", "S"), server("1", "Z"), ""},
		"two in one pipeline": {frames(unnamed("a"), client("S"), unnamed("b"), client("S")), server("1", "Z", "1", "Z"), "parse a <nil>; parse b <nil>"},
		"refused":             {frames(unnamed("a"), unnamed("b"), client("S")), server("E", "Z"), "simple"},
		"discarded":           {frames(client("B"), unnamed("b"), client("S"), unnamed("c"), client("S")), server("E", "Z", "1", "Z"), "parse c <nil>"},
		"simple query":        {client("Q"), server("C", "Z"), "SELECT 1; simple"},
		"failed query":        {client("Q"), server("E", "Z"), "simple"},
		"discarded query":     {client("P", "Q", "S"), server("E", "Z"), ""},
		"closed":              {client("Cu", "C", "S"), server("3", "3", "Z"), "simple"},
		"too large":           {frames(unnamed(big), client("S"), unnamed("b"), client("S")), server("1", "Z", "1", "Z"), "parse unknown; parse b <nil>"},
		"parameter":           {nil, server("S"), "TimeZone=UTC"},
		"count lost":          {client("P"), server("2"), "parse unknown"},
	} {
		for _, cut := range []int{1, 7, 4 << 20} {
			t.Run(fmt.Sprintf("%s/%d", name, cut), func(t *testing.T) {
				t.Parallel()
				var n notes
				tr := wire.Tracker{Observer: &n}
				feed(t, tr.Client, c.client, cut, name)
				feed(t, tr.Server, c.server, cut, name)
				require.Equal(t, c.want, n.take())
			})
		}
	}
}

// TestObserverPending: more bytes wait for their ParseComplete than are kept.
func TestObserverPending(t *testing.T) {
	t.Parallel()
	var n notes
	tr := wire.Tracker{Observer: &n}
	sql := strings.Repeat("y", wire.MaxObservedParse/2)
	for range 10 {
		require.NoError(t, fed(tr.Client(unnamed(sql))))
	}
	require.NoError(t, fed(tr.Client(client("S"))))
	for i := range 10 {
		require.NoError(t, fed(tr.Server(server("1"))))
		want := "parse " + sql + " <nil>"
		if i >= 7 {
			want = "parse unknown"
		}
		require.True(t, want == n.take(), "number %d", i)
	}
	runScript(t, &tr, "<Z = >Pu >S <1 <Z =", 1000)
	require.Equal(t, "parse select 1 <nil>", n.take())
}
