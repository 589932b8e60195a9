package wire_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/proxy/wire"
)

// TestClientLimit: after the script the words of next arrive; the ones before "|" may go.
func TestClientLimit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ script, next string }{
		"idle":                      {"", "| Q Q"},
		"idle, nothing":             {"", "|"},
		"transaction":               {">Q <C <ZT", "Q | Q"},
		"transaction, unit":         {">Q <C <ZT", "P B D E S | P"},
		"transaction, flush":        {">Q <C <ZT", "P H B H E H S | Q"},
		"transaction, call":         {">Q <C <ZT", "F | Q"},
		"transaction, goodbye":      {">Q <C <ZT", "X |"},
		"reply awaited":             {">Q", "| Q"},
		"reply awaited in tx":       {">Q <C <ZT >Q", "| Q"},
		"unit open":                 {">P >B", "E S | P"},
		"unit open, pipelined":      {">P >B >E >S >P", "B E S | P"},
		"unit, whole":               {">P >B >E >S", "| P"},
		"query ends a unit":         {">P", "Q | Q"},
		"skipping, query":           {">P >H <E", "B Q S | Q"},
		"copy in":                   {">Q <G", "d d c | Q"},
		"copy in, fail":             {">Q <G", "d f | Q"},
		"copy in, ended":            {">Q <G >c", "| Q"},
		"copy in, extended":         {">P >B >E >S <1 <2 <G", "d S d c S | P"},
		"copy in, extended, ended":  {">P >B >E >S <1 <2 <G >c", "S | P"},
		"copy announced, not begun": {">P >B >E >S", "| d c S"},
		"copy out":                  {">Q <H", "| Q"},
		"doubt, unit may go":        {">P >B >E >S >S <1 <2 <G <E <Z", "Q | Q"},
		"doubt, answer is certain":  {">P >B >E >S <1 <2 <G <E >S", "| Q"},
		"lost":                      {"<E", "Q Q P |"},
		"failed transaction":        {">Q <C <ZT >Q <E <ZE", "Q | Q"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			may1, stay, ok := strings.Cut(c.next, "|")
			require.True(t, ok)
			var may, all []byte
			for _, w := range strings.Fields(may1) {
				may = append(may, clientFrame(w)...)
			}
			all = append([]byte(nil), may...)
			for _, w := range strings.Fields(stay) {
				all = append(all, clientFrame(w)...)
			}
			var tr wire.Tracker
			runScript(t, &tr, c.script, 100)
			require.Equal(t, len(may), tr.ClientLimit(all))
			// What is asked for in small parts adds up to the same.
			sent := 0
			for sent < len(all) {
				n := tr.ClientLimit(all[sent:min(sent+2, len(all))])
				if n == 0 {
					break
				}
				require.NoError(t, fed(tr.Client(all[sent:sent+n])))
				sent += n
			}
			require.Equal(t, len(may), sent)
		})
	}
}

// TestClientLimitRest: a frame that has begun goes to its end, wherever the cut is.
func TestClientLimitRest(t *testing.T) {
	t.Parallel()
	q := clientFrame("Q")
	p := append(append([]byte(nil), q...), q...)
	for cut := 1; cut < len(q); cut++ {
		var tr wire.Tracker
		require.NoError(t, fed(tr.Client(p[:cut])))
		require.Equal(t, len(q)-cut, tr.ClientLimit(p[cut:]))
		require.Equal(t, 1, tr.ClientLimit(p[cut:cut+1]))
	}
}
