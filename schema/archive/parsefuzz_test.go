package archive_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/schema/archive"
	"crossfade/schema/plan"
)

func FuzzParseArchive(f *testing.F) {
	for minor := archive.MinMinor; minor <= archive.MaxMinor; minor++ {
		f.Add(archive.EncodeArchive(minor, 4, archive.SampleEntries(minor)...))
	}
	f.Add([]byte(archive.Magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := plan.ParseArchive(data)
		if err != nil {
			require.ErrorIs(t, err, archive.ErrArchive)
			return
		}
		size := 0
		for _, e := range a.Entries {
			size += len(e.Definition) + len(e.Tag) + len(e.Drop)
		}
		require.LessOrEqual(t, size, len(data))
		p := plan.New(a)
		own, seen := 0, map[int]bool{}
		for _, e := range slices.Concat(p.PreData, p.AfterCopy, p.Decision, p.Last) {
			require.False(t, seen[e.ID], "each entry is restored once")
			seen[e.ID] = true
			if e.ID > 0 {
				own++
			}
		}
		require.LessOrEqual(t, own, len(a.Entries))
		p.Roles()
	})
}
