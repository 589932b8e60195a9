package apply

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/replicate/stream"
)

// A transaction that ended before the marker is no alarm, though the source sends it after it.
func TestWhatEndedBeforeTheMarkerIsNoAlarm(t *testing.T) {
	t.Parallel()
	of := func(at pg.LSN) *stream.Part {
		return &stream.Part{XID: 7, CommitLSN: at, Changes: []stream.Change{{Relation: &stream.Relation{Name: pg.Name{Schema: "public", Name: "a"}}}}}
	}
	require.Nil(t, alarmSince(of(0x99), 0x100))
	for _, at := range []pg.LSN{0x100, 0x101} {
		require.Equal(t, &Alarm{XID: 7, LSN: at, Relation: "public.a"}, alarmSince(of(at), 0x100))
	}
	ours := of(0x101)
	ours.Own = true
	require.Nil(t, alarmSince(ours, 0x100))
}
