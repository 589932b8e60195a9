package lists_test

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/lists"
)

func TestListsOfNothingAreNilAndSetsAreNot(t *testing.T) {
	t.Parallel()
	odd := func(n int) bool { return n%2 == 1 }
	require.Equal(t, []string{"3", "1"}, lists.Map([]int{3, 1}, strconv.Itoa))
	require.Nil(t, lists.Map([]int{}, strconv.Itoa))
	in := []int{1, 2, 3}
	out := lists.Filter(in, odd)
	require.Equal(t, []int{1, 3}, out)
	out[0] = 9
	require.Equal(t, []int{1, 2, 3}, in, "the list is not shared")
	require.Nil(t, lists.Filter([]int{2}, odd))
	require.Equal(t, map[int]bool{1: true, 2: true}, lists.Set([]int{1, 2, 1}))
	require.Equal(t, map[bool]bool{true: true}, lists.SetOf([]int{1, 3}, odd))
	require.NotNil(t, lists.Set[int](nil))
	require.Equal(t, map[bool]int{true: 3, false: 2}, lists.By([]int{1, 2, 3}, odd))
	require.Equal(t, []int{}, lists.NotNil[int](nil))
	require.Equal(t, in, lists.NotNil(in))
}

func TestPickAddNewAndPut(t *testing.T) {
	t.Parallel()
	half := func(n int) (int, bool) { return n / 2, n%2 == 0 }
	require.Equal(t, []int{2, 1}, lists.Pick([]int{4, 3, 2}, half))
	require.Nil(t, lists.Pick([]int{3}, half))
	require.Equal(t, []int{2, 1, 3}, lists.AddNew([]int{2}, 1, 2, 3, 1))
	require.Nil(t, lists.AddNew[int](nil))
	var m map[string]int
	lists.Put(&m, "one", 1)
	lists.Put(&m, "two", 2)
	require.Equal(t, map[string]int{"one": 1, "two": 2}, m)
}
