package walk_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/walk"
)

func TestFieldsAreReadInOrder(t *testing.T) {
	t.Parallel()
	w := walk.Bytes{Rest: []byte("\x01\x00\x02\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x04\xff\xffname\x00\x00\x00\x00\x01x\x00\x00\x00\x00\xff\xff\xff\xffrest")}
	require.EqualValues(t, 1, w.Byte())
	require.EqualValues(t, 2, w.Uint16())
	require.EqualValues(t, 3, w.Uint32())
	require.EqualValues(t, 4, w.Uint64())
	require.Equal(t, 0xffff, w.Count())
	require.Equal(t, "name", string(w.Text()))
	for _, want := range []struct {
		v    []byte
		null bool
	}{{v: []byte("x")}, {v: []byte{}}, {null: true}} {
		v, null := w.Value()
		require.Equal(t, want.v, v)
		require.Equal(t, want.null, null)
	}
	require.Equal(t, "rest", string(w.Take(4)))
	require.False(t, w.Bad)
	require.Empty(t, w.Rest)
}

func TestWhatIsBadStaysBad(t *testing.T) {
	t.Parallel()
	for name, step := range map[string]func(*walk.Bytes){
		"bytes":          func(w *walk.Bytes) { w.Take(6) },
		"negative":       func(w *walk.Bytes) { w.Take(-1) },
		"number":         func(w *walk.Bytes) { w.Uint64() },
		"text":           func(w *walk.Bytes) { w.Text() },
		"length":         func(w *walk.Bytes) { w.Value() },
		"length below 0": func(w *walk.Bytes) { w.Rest = []byte{0xff, 0xff, 0xff, 0xfe, 1}; w.Value() },
	} {
		w := walk.Bytes{Rest: []byte{1, 2, 3, 4, 5}}
		step(&w)
		require.True(t, w.Bad, name)
		require.Zero(t, w.Byte(), name)
		require.Zero(t, w.Uint16(), name)
		require.Zero(t, w.Uint32(), name)
		require.Nil(t, w.Text(), name)
		v, null := w.Value()
		require.Nil(t, v, name)
		require.False(t, null, name)
		require.True(t, w.Bad, name)
	}
}

func TestNoStepTakesMemory(t *testing.T) {
	body := []byte("\x00\x02name\x00\x00\x00\x00\x01x")
	require.Zero(t, testing.AllocsPerRun(100, func() {
		w := walk.Bytes{Rest: body}
		w.Count()
		w.Text()
		w.Value()
		if w.Bad {
			t.Error("bad")
		}
	}))
}

// FuzzBytes: whatever the bytes and the steps are, nothing is read that is not there.
func FuzzBytes(f *testing.F) {
	f.Add([]byte("\x00\x02name\x00\x00\x00\x00\x01x"), []byte{1, 3, 4, 5})
	f.Fuzz(func(t *testing.T, body, steps []byte) {
		w := walk.Bytes{Rest: body}
		for _, s := range steps {
			ahead, bad := len(w.Rest), w.Bad
			switch s % 7 {
			case 0:
				w.Byte()
			case 1:
				w.Uint16()
			case 2:
				w.Uint32()
			case 3:
				w.Uint64()
			case 4:
				w.Text()
			case 5:
				w.Value()
			default:
				w.Take(int(s) - 128)
			}
			if len(w.Rest) > ahead || bad && (!w.Bad || len(w.Rest) != ahead) {
				t.Fatalf("step %d from %d bytes (bad: %t) to %d (bad: %t)", s%7, ahead, bad, len(w.Rest), w.Bad)
			}
		}
	})
}
