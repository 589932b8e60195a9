package stream

import (
	"context"
	"encoding/hex"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAssemblerCutsLargeTransactions(t *testing.T) {
	t.Parallel()
	rel := &Relation{Columns: make([]Column, 1)}
	a := assembler{limit: partOverhead + 3*(changeOverhead+valueOverhead+10)}
	add := func(m Message) *Part {
		p, err := a.add(&m, 10)
		require.NoError(t, err)
		return p
	}
	require.Nil(t, add(Message{Kind: KindBegin, XID: 5, LSN: 100}))
	var parts []*Part
	for range 7 {
		if p := add(Message{Kind: KindInsert, Relation: rel, NewTuple: make([]Value, 1)}); p != nil {
			parts = append(parts, p)
		}
	}
	parts = append(parts, add(Message{Kind: KindCommit, LSN: 100, EndLSN: 140}))
	require.Len(t, parts, 3)
	require.Equal(t, []bool{true, false, false}, []bool{parts[0].First, parts[1].First, parts[2].First})
	require.Equal(t, []bool{false, false, true}, []bool{parts[0].Last, parts[1].Last, parts[2].Last})
	require.Equal(t, []int{3, 3, 1}, []int{len(parts[0].Changes), len(parts[1].Changes), len(parts[2].Changes)})
	for _, p := range parts {
		require.Equal(t, uint32(5), p.XID)
		require.EqualValues(t, 100, p.CommitLSN)
	}
	require.EqualValues(t, 140, parts[2].EndLSN)
	require.False(t, a.open())
}

func TestAssemblerRefusesWhatIsOutOfPlace(t *testing.T) {
	t.Parallel()
	begin := Message{Kind: KindBegin, LSN: 10}
	for name, list := range map[string][]Message{
		"change outside":     {{Kind: KindInsert}},
		"begin within":       {begin, begin},
		"commit outside":     {{Kind: KindCommit, LSN: 10, EndLSN: 20}},
		"commit of another":  {begin, {Kind: KindCommit, LSN: 11, EndLSN: 20}},
		"commit ends before": {begin, {Kind: KindCommit, LSN: 10, EndLSN: 10}},
	} {
		a := assembler{limit: 1 << 20}
		var err error
		for i := range list {
			_, err = a.add(&list[i], 1)
		}
		require.ErrorIs(t, err, ErrMalformed, name)
	}
}

func TestOwnTransactionsBeginWithOurMessage(t *testing.T) {
	t.Parallel()
	own := func(list ...Message) bool {
		a := assembler{limit: 1 << 20}
		list = append(append([]Message{{Kind: KindBegin, LSN: 1}}, list...), Message{Kind: KindCommit, LSN: 1, EndLSN: 2})
		var p *Part
		for i := range list {
			p, _ = a.add(&list[i], 1)
		}
		return p.Own
	}
	ours := Message{Kind: KindMessage, Transactional: true, Prefix: "crossfade.x"}
	change := Message{Kind: KindTruncate}
	require.True(t, own(ours, change))
	require.False(t, own(change, ours))
	require.False(t, own(Message{Kind: KindMessage, Transactional: true, Prefix: "crossfadex"}, change))
	require.True(t, own(Message{Kind: KindMessage, Prefix: "other"}, ours, change), "a message outside of transactions counts for nothing")
	require.False(t, own())
}

func TestStatusUpdateIsAsDocumented(t *testing.T) {
	t.Parallel()
	got := statusUpdate(0x11, 0x22, 0x33, time.Date(2000, 1, 1, 0, 0, 1, 0, time.UTC), true)
	require.Equal(t, "64"+"00000026"+"72"+"0000000000000011"+"0000000000000022"+"0000000000000033"+"00000000000f4240"+"01", hex.EncodeToString(got))
	require.Zero(t, statusUpdate(1, 1, 1, time.Now(), false)[38])
}

func TestStartCommandByVersion(t *testing.T) {
	t.Parallel()
	require.Equal(t, `START_REPLICATION SLOT "s" LOGICAL 0/10 (proto_version '1', publication_names '"p''""x"')`, startCommand("s", `p'"x`, 0x10, 13))
	require.Equal(t, `START_REPLICATION SLOT "s" LOGICAL 1/0 (proto_version '1', publication_names '"p"', messages 'true')`, startCommand("s", "p", 1<<32, 14))
}

// A part that is not handed out any more, since its connection was lost, takes no room of those to
// come: the next session would wait for its release for good.
func TestAPartThatIsNotHandedOutTakesNoRoom(t *testing.T) {
	t.Parallel()
	r := &Reader{cfg: Config{MaxBytes: 10}, out: make(chan *Part), space: make(chan struct{}, 1)}
	lost, lose := context.WithCancel(t.Context())
	lose()
	require.ErrorIs(t, r.hand(lost, &Part{Size: 20}), context.Canceled)
	require.Zero(t, r.inflight.Load())
}
