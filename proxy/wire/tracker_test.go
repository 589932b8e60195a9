package wire_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/proxy/wire"
)

// boundaries has the boundary cases, as the server is known to behave (postgres_test.go has them
// with a real one).
var boundaries = map[string]string{
	"fresh":                     "=",
	"simple query":              "= >Q !reply_outstanding <T <D <C !reply_outstanding <Z =",
	"empty query":               ">Q <I <Z =",
	"two queries back to back":  ">Q >Q <C <Z !reply_outstanding <C <Z =",
	"several statements":        ">Q <T <D <C <C <Z =",
	"failed query":              ">Q <E <Z =",
	"transaction":               ">Q <C <ZT !in_transaction >Q <C <ZT !in_transaction >Q <C <Z =",
	"failed transaction":        ">Q <C <ZT >Q <E <ZE !in_transaction >Q <C <Z =",
	"function call":             ">F !reply_outstanding <V <Z =",
	"failed function call":      ">F <E <Z =",
	"async":                     "<N <A <S = >Q <N <C <S <Z <A =",
	"extended":                  ">P >B >D >E !extended_unit_open >S !reply_outstanding <1 <2 <n <C <Z =",
	"extended with rows":        ">P >D >S <1 <t <T <Z = >B >E >S <2 <D <s <Z =",
	"flush":                     ">P >H <1 !extended_unit_open >B >E >H <2 <C !extended_unit_open >S <Z =",
	"flush alone":               ">H =",
	"sync alone":                ">S !reply_outstanding <Z =",
	"pipelined units":           ">P >B >E >S >B >E >S <1 <2 <C <Z !reply_outstanding <2 <C <Z =",
	"reply while next began":    ">B >E >S >B <2 <C <Z !extended_unit_open >E >S <2 <C <Z =",
	"error skips to sync":       ">P >B >E >S <E !reply_outstanding <Z =",
	"error before sync is sent": ">P >H <E !extended_unit_open >B >E !extended_unit_open >S !reply_outstanding <Z =",
	"error skips a query":       ">P >Q <E !extended_unit_open >S <Z =",
	"query closes a unit":       ">P >Q <1 <C <Z =",
	"error skips queued query":  ">P >B >Q >S >Q <E <Z !reply_outstanding <C <Z =",
	"error in first of two":     ">P >B >E >S >P >B >E >S <E <Z <1 <2 <C <Z =",
	"error of a sync":           ">P >B >E >S <1 <2 <C <E <Z =",
	"close":                     ">C >S <3 <Z = >Cu >S <3 <Z =",

	"copy out":              ">Q <H !copy <d <c !copy <C <Z =",
	"copy out failed":       ">Q <H <d <E !reply_outstanding <Z =",
	"copy out extended":     ">P >B >E >S <1 <2 <H !copy <d <c <C <Z =",
	"copy in":               ">Q <G !copy >d !copy >c !copy <C <Z =",
	"copy in, data early":   ">Q >d >c <G !copy <C <Z =",
	"copy in twice":         ">Q <G >d >c <C !reply_outstanding <G !copy >c <C <Z =",
	"copy in twice, early":  ">Q >c >c <G <C <G !copy <C <Z =",
	"copy in refused":       ">Q <E <Z >d >c =",
	"copy in, data error":   ">Q <G >d >d <E <Z >d >c =",
	"copy fail":             ">Q <G >d >f <E <Z =",
	"stray end of copy":     ">c >f = >Q >c <C <Z =",
	"copy in, query behind": ">Q >d >c >Q <G <C <Z !reply_outstanding <C <Z =",

	"swallowed sync":              ">P >B >E >S <1 <2 <G !copy >d >c !copy <C !extended_unit_open >S !reply_outstanding <Z =",
	"swallowed sync, data early":  ">P >B >E >S >d >c >S <1 <2 <G !copy <C !reply_outstanding <Z =",
	"sync only behind data":       ">P >B >E >d >c >S <1 <2 <G <C <Z =",
	"sync only behind, late":      ">P >B >E >H <1 <2 <G >d >c >S !copy <C !reply_outstanding <Z =",
	"syncs in the data":           ">P >B >E >S <1 <2 <G >S >d >S >c <C !extended_unit_open >S <Z =",
	"unit behind copy":            ">P >B >E >S >c >S >B >E >S <1 <2 <G <C <Z <2 <C <Z =",
	"copy fails, extended":        ">P >B >E >H <1 <2 <G >d >f >S <E !reply_outstanding <Z =",
	"copy error, no sync yet":     ">P >B >E >H <1 <2 <G >d <E !extended_unit_open >d >c >S <Z =",
	"copy error, simple and sync": ">Q >S >c <G <E !count_uncertain <Z !count_uncertain <Z =",

	// One Sync into the COPY, then an error: swallowed or not, nobody knows at first.
	"uncertain, answered":           ">P >B >E >S <1 <2 <G >d <E !count_uncertain <Z =",
	"uncertain, swallowed, healed":  ">P >B >E >S <1 <2 <G >d <E >S !count_uncertain <Z !count_uncertain >Q <C !reply_outstanding <Z =",
	"uncertain, both answered":      ">P >B >E >S <1 <2 <G >d <E >S <Z <Z =",
	"uncertain, healed by error":    ">P >B >E >S <1 <2 <G >d <E >S <Z >Q <E !reply_outstanding <Z =",
	"uncertain, late answer, query": ">P >B >E >S <1 <2 <G >d <E >S <Z >Q !count_uncertain <Z !reply_outstanding <C <Z =",
	"uncertain, healed by unit":     ">P >B >E >S <1 <2 <G >c >S <E <Z !count_uncertain >P >S <1 !reply_outstanding <Z =",
	"uncertain, request skipped":    ">P >B >E >S <1 <2 <G <E !count_uncertain >P !count_uncertain >S <Z !count_uncertain",
	"uncertain, units behind":       ">P >B >E >S >c >P >S <1 <2 <G <E !count_uncertain",

	"copy both":                 ">Q <W !copy >d <d >d >c <c <C <Z =",
	"terminated":                ">X !client_terminated",
	"error out of the blue":     "<E !count_uncertain",
	"answer to nothing":         ">P >S <2 !count_uncertain",
	"ready for nothing":         "<Z !count_uncertain",
	"copy ends without its end": ">Q <G <C !count_uncertain",
	"unknown request":           ">y !count_uncertain",
	"unknown reply":             ">Q <y <C <Z =",
}

func TestBoundary(t *testing.T) {
	t.Parallel()
	for name, script := range boundaries {
		for _, cut := range []int{1, 3, 1 << 20} {
			t.Run(fmt.Sprintf("%s/%d", name, cut), func(t *testing.T) {
				t.Parallel()
				runScript(t, &wire.Tracker{}, script, cut)
			})
		}
	}
}

func TestPartialFrames(t *testing.T) {
	t.Parallel()
	for _, f := range [][]byte{clientFrame("Q"), clientFrame("P"), clientFrame("S")} {
		var tr wire.Tracker
		for i := range f {
			require.NoError(t, fed(tr.Client(f[i:i+1])))
			if i < len(f)-1 {
				require.Equal(t, wire.ReasonPartial, tr.Reason())
			}
		}
		require.NotEqual(t, wire.ReasonPartial, tr.Reason())
		require.EqualValues(t, 1, tr.ClientFrames())
	}
	var tr wire.Tracker
	f := serverFrame("N")
	for i := range len(f) - 1 {
		require.NoError(t, fed(tr.Server(f[i:i+1])))
		require.Equal(t, wire.ReasonPartial, tr.Reason())
		require.True(t, tr.ServerPartial())
	}
	require.NoError(t, fed(tr.Server(f[len(f)-1:])))
	require.True(t, tr.Boundary())
}

func TestSettle(t *testing.T) {
	t.Parallel()
	var tr wire.Tracker
	runScript(t, &tr, ">Q <C <ZT >P >S <2 !count_uncertain", 100)
	tr.Settle()
	require.True(t, tr.Boundary())
	require.Equal(t, byte('I'), tr.Status())
	runScript(t, &tr, ">P >B >E >S <1 <2 <G >d <E !count_uncertain", 100)
	half := clientFrame("Q")
	require.NoError(t, fed(tr.Client(half[:3])))
	tr.Settle()
	require.False(t, tr.Boundary(), "a part of a frame is on its way")
	require.NoError(t, fed(tr.Client(half[3:])))
	runScript(t, &tr, "!count_uncertain", 100)
	tr.Settle()
	runScript(t, &tr, "= >Q <C <Z =", 100)
	runScript(t, &tr, ">Q <C <ZT !in_transaction", 100)
	tr.Settle()
	require.Equal(t, wire.ReasonTransaction, tr.Reason(), "a count that is certain is not touched")
}

func TestMalformedFrames(t *testing.T) {
	t.Parallel()
	for _, head := range []string{"Q\x00\x00\x00\x03", "Q\x00\x00\x00\x00", "Q\xff\xff\xff\xff", "Q\x80\x00\x00\x00"} {
		var tr wire.Tracker
		var c wire.Cursor
		require.ErrorIs(t, c.Walk([]byte(head)), wire.ErrMalformed)
		require.False(t, c.Between())
		for range 2 { // what comes after it is not walked over
			require.ErrorIs(t, fed(tr.Client([]byte(head))), wire.ErrMalformed)
			require.ErrorIs(t, fed(tr.Server([]byte(head))), wire.ErrMalformed)
			require.ErrorIs(t, c.Walk(clientFrame("S")), wire.ErrMalformed)
		}
	}
	for _, body := range []string{"", "II", "x"} {
		var tr wire.Tracker
		require.ErrorIs(t, fed(tr.Server(wire.AppendFrame(nil, 'Z', []byte(body)))), wire.ErrMalformed)
		require.ErrorIs(t, fed(tr.Server(wire.AppendReadyForQuery(nil, 'I'))), wire.ErrMalformed)
	}
}

// TestQueueBound: a client that never lets the server answer costs a megabyte and its right to
// move, no more.
func TestQueueBound(t *testing.T) {
	t.Parallel()
	var tr wire.Tracker
	run := []byte(strings.Repeat(string(clientFrame("S")), 1<<10))
	for range 1 << 10 {
		require.NoError(t, fed(tr.Client(run)))
	}
	require.Equal(t, wire.ReasonOutstanding, tr.Reason())
	require.NoError(t, fed(tr.Client(run)))
	require.Equal(t, wire.ReasonUncertain, tr.Reason())
	tr.Settle()
	runScript(t, &tr, "= >Q <C <Z =", 100)
}
