package stream

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
)

// enc builds messages for tests.
type enc []byte

func (e enc) u8(v byte) enc      { return append(e, v) }
func (e enc) u16(v uint16) enc   { return binary.BigEndian.AppendUint16(e, v) }
func (e enc) u32(v uint32) enc   { return binary.BigEndian.AppendUint32(e, v) }
func (e enc) u64(v uint64) enc   { return binary.BigEndian.AppendUint64(e, v) }
func (e enc) str(s string) enc   { return append(append(e, s...), 0) }
func (e enc) bytes(b []byte) enc { return append(e.u32(uint32(len(b))), b...) }

// tuple takes strings, nil for null and true for unchanged.
func (e enc) tuple(vals ...any) enc {
	e = e.u16(uint16(len(vals)))
	for _, v := range vals {
		switch v := v.(type) {
		case nil:
			e = e.u8('n')
		case bool:
			e = e.u8('u')
		case string:
			e = e.u8('t').bytes([]byte(v))
		}
	}
	return e
}

func relationMessage(id uint32, columns ...string) enc {
	e := enc{'R'}.u32(id).str("s").str("t").u8('d').u16(uint16(len(columns)))
	for i, c := range columns {
		key := byte(0)
		if i == 0 {
			key = 1
		}
		e = e.u8(key).str(c).u32(23).u32(0xffffffff)
	}
	return e
}

func decode(t *testing.T, d *Decoder, b []byte) Message {
	t.Helper()
	var m Message
	require.NoError(t, d.Decode(b, &m))
	return m
}

func TestDecodeEveryKind(t *testing.T) {
	t.Parallel()
	d := NewDecoder()
	m := decode(t, d, enc{'B'}.u64(0x10).u64(86400_000000).u32(77))
	require.Equal(t, Message{Kind: 'B', LSN: 0x10, XID: 77, Time: time.Date(2000, 1, 2, 0, 0, 0, 0, time.UTC)}, m)
	m = decode(t, d, enc{'C'}.u8(0).u64(0x10).u64(0x20).u64(0))
	require.Equal(t, pg.LSN(0x20), m.EndLSN)
	m = decode(t, d, enc{'O'}.u64(5).str("origin"))
	require.Equal(t, KindOrigin, m.Kind)
	decode(t, d, enc{'Y'}.u32(20000).str("app").str("mood"))
	m = decode(t, d, enc{'R'}.u32(9).str("").str("t").u8('f').u16(2).
		u8(1).str("id").u32(20000).u32(0xffffffff).u8(0).str("n").u32(1700).u32(12))
	require.Equal(t, &Relation{ID: 9, Name: pg.Name{Schema: "pg_catalog", Name: "t"}, Identity: 'f', Columns: []Column{
		{Name: "id", Key: true, TypeOID: 20000, TypeMod: -1, Type: pg.Name{Schema: "app", Name: "mood"}},
		{Name: "n", TypeOID: 1700, TypeMod: 12},
	}}, m.Relation)
	rel := m.Relation
	m = decode(t, d, enc{'I'}.u32(9).u8('N').tuple("a", nil))
	require.Equal(t, []Value{{Text, []byte("a")}, {Kind: Null}}, m.NewTuple)
	require.Same(t, rel, m.Relation)
	m = decode(t, d, enc{'U'}.u32(9).u8('N').tuple(true, ""))
	require.Equal(t, []Value{{Kind: Unchanged}, {Text, []byte{}}}, m.NewTuple)
	require.Equal(t, OldNone, m.Old)
	m = decode(t, d, enc{'U'}.u32(9).u8('K').tuple("k", nil).u8('N').tuple("l", "x"))
	require.Equal(t, OldKey, m.Old)
	require.Equal(t, "k", string(m.OldTuple[0].Data))
	m = decode(t, d, enc{'D'}.u32(9).u8('O').tuple("k", "y"))
	require.Equal(t, OldFull, m.Old)
	m = decode(t, d, enc{'T'}.u32(1).u8(3).u32(9))
	require.True(t, m.Cascade && m.RestartIdentity)
	require.Equal(t, []*Relation{rel}, m.Relations)
	m = decode(t, d, enc{'M'}.u8(1).u64(3).str("p").bytes([]byte("content")))
	require.True(t, m.Transactional)
	require.Equal(t, "p", m.Prefix)
	require.Equal(t, "content", string(m.Content))
}

func TestTheSameRelationIsDecodedOnce(t *testing.T) {
	t.Parallel()
	d := NewDecoder()
	first := decode(t, d, relationMessage(1, "a", "b")).Relation
	require.Same(t, first, decode(t, d, relationMessage(1, "a", "b")).Relation)
	other := decode(t, d, relationMessage(1, "a", "c")).Relation
	require.NotSame(t, first, other)
	require.Same(t, other, decode(t, d, enc{'I'}.u32(1).u8('N').tuple("1", "2")).Relation)
}

func TestMalformedMessages(t *testing.T) {
	t.Parallel()
	for name, b := range map[string][]byte{
		"empty":                       {},
		"unknown kind":                {'S', 0, 0},
		"short begin":                 enc{'B'}.u64(1).u64(1),
		"long begin":                  enc{'B'}.u64(1).u64(1).u32(1).u8(0),
		"commit flags":                enc{'C'}.u8(1).u64(1).u64(2).u64(3),
		"unknown relation":            enc{'I'}.u32(5).u8('N').tuple("1", "2"),
		"wrong column count":          enc{'I'}.u32(1).u8('N').tuple("1"),
		"no new tuple":                enc{'U'}.u32(1).u8('K').tuple("1", nil).u8('X'),
		"value kind":                  enc{'I'}.u32(1).u8('N').u16(2).u8('z').u8('n'),
		"value longer than message":   enc{'I'}.u32(1).u8('N').u16(2).u8('n').u8('t').u32(1 << 30),
		"value of negative length":    enc{'I'}.u32(1).u8('N').u16(2).u8('n').u8('t').u32(0xffffffff),
		"relation of 65535 columns":   enc{'R'}.u32(7).str("s").str("t").u8('d').u16(65535),
		"truncate of many":            enc{'T'}.u32(0x7fffffff).u8(0).u32(1),
		"truncate of negative number": enc{'T'}.u32(0xffffffff).u8(0).u32(1),
		"name without end":            append(enc{'O'}.u64(1), "abc"...),
		"message content":             enc{'M'}.u8(1).u64(1).str("p").u32(0xffffffff),
	} {
		d := NewDecoder()
		decode(t, d, relationMessage(1, "a", "b"))
		var m Message
		require.ErrorIs(t, d.Decode(b, &m), ErrMalformed, name)
	}
}

// FuzzDecode feeds a row of messages, separated by their lengths, so that
// relations and types can precede what uses them.
func FuzzDecode(f *testing.F) {
	pack := func(list ...enc) []byte {
		var b []byte
		for _, e := range list {
			b = append(enc(b).u16(uint16(len(e))), e...)
		}
		return b
	}
	f.Add(pack(enc{'B'}.u64(1).u64(1).u32(1), relationMessage(1, "a", "b"), enc{'U'}.u32(1).u8('K').tuple("1", nil).u8('N').tuple(true, "2"),
		enc{'T'}.u32(1).u8(0).u32(1), enc{'M'}.u8(1).u64(3).str("p").bytes([]byte("c")), enc{'C'}.u8(0).u64(1).u64(2).u64(0)))
	f.Add(pack(enc{'Y'}.u32(20000).str("s").str("t"), relationMessage(2), enc{'D'}.u32(2).u8('O').tuple()))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := NewDecoder()
		asm := assembler{limit: 256}
		var m Message
		for len(b) >= 2 {
			n := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
			msg := b[2 : 2+n : 2+n]
			b = b[2+n:]
			before := bytes.Clone(msg)
			err := d.Decode(msg, &m)
			require.Equal(t, before, msg, "the input is not changed")
			if err != nil {
				require.ErrorIs(t, err, ErrMalformed)
				return
			}
			for _, tuple := range [][]Value{m.OldTuple, m.NewTuple} {
				require.True(t, tuple == nil || len(tuple) == len(m.Relation.Columns))
			}
			if _, err := asm.add(&m, n); err != nil {
				require.ErrorIs(t, err, ErrMalformed)
				return
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	d := NewDecoder()
	var m Message
	if err := d.Decode(relationMessage(1, "a", "b", "c", "d"), &m); err != nil {
		b.Fatal(err)
	}
	msg := enc{'U'}.u32(1).u8('N').tuple("123456", "hello world", nil, "2020-01-01 00:00:00+00")
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Decode(msg, &m); err != nil {
			b.Fatal(err)
		}
	}
}
