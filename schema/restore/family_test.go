package restore

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/schema/archive"
	"crossfade/schema/plan"
)

func ids(entries []*archive.Entry) (out []int) {
	for _, e := range entries {
		out = append(out, e.ID)
	}
	return out
}

func TestFamiliesHangTogetherByDependencies(t *testing.T) {
	t.Parallel()
	list := []*archive.Entry{
		{ID: 1, Kind: "SCHEMA"},
		{ID: 2, Kind: "FUNCTION", Dependencies: []int{1}},
		{ID: 10, Kind: "TABLE", Dependencies: []int{1, 2}},
		{ID: 11, Kind: "COMMENT", Dependencies: []int{10}},
		{ID: 12, Kind: "TABLE", Dependencies: []int{1}},
		{ID: 13, Kind: "SEQUENCE", Dependencies: []int{1}},
		{ID: 14, Kind: "SEQUENCE OWNED BY", Dependencies: []int{12, 13}},
		{ID: 15, Kind: "VIEW", Dependencies: []int{10}},
		{ID: 16, Kind: "TABLE", Dependencies: []int{1, 15}}, // of the view's row type
		{ID: 17, Kind: "TABLE", Dependencies: []int{1, 10}}, // inherits
		{ID: 18, Kind: "TABLE"},
		{ID: 19, Kind: "TABLE ATTACH", Dependencies: []int{18, 12}},
		{ID: 20, Kind: "DEFAULT", Dependencies: []int{16, 13}},
		{ID: 21, Kind: "DEFAULT", Dependencies: []int{12, 13}},
		{ID: 22, Kind: plan.KindOwner, Dependencies: []int{10}},
		{ID: 23, Kind: "TABLE"},
	}
	before, all, after := families(list)
	require.Equal(t, []int{1, 2}, ids(before))
	require.Len(t, all, 3)
	require.Equal(t, []int{10, 11, 17}, ids(all[0]))
	require.Equal(t, []int{12, 13, 14, 18, 19, 21}, ids(all[1]))
	require.Equal(t, []int{23}, ids(all[2]))
	require.Equal(t, []int{15, 16, 20, 22}, ids(after))

	lots := share(all, 2)
	require.Len(t, lots, 3, "each session gets work")
	require.Equal(t, []int{12, 13, 14, 18, 19, 21}, ids(lots[0]), "the largest first")
	n := 0
	for _, lot := range lots {
		n += len(lot)
	}
	require.Equal(t, 10, n, "nothing is lost")

	before, all, after = families(list[:2])
	require.Equal(t, []int{1, 2}, ids(before))
	require.Empty(t, all)
	require.Empty(t, after)
}
