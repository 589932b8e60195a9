package archive

import (
	"bytes"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// archiveWriter writes archives of any format version, for the parser's tests.
type archiveWriter struct {
	bytes.Buffer
	intSize int
}

func (w *archiveWriter) int(v int) {
	sign := byte(0)
	if v < 0 {
		sign, v = 1, -v
	}
	w.WriteByte(sign)
	for i := range w.intSize {
		w.WriteByte(byte(v >> (8 * i)))
	}
}

func (w *archiveWriter) string(s string) {
	w.int(len(s))
	w.WriteString(s)
}

func encodeArchive(minor, intSize int, entries ...Entry) []byte {
	w := &archiveWriter{intSize: intSize}
	w.WriteString(archiveMagic)
	w.Write([]byte{1, byte(minor), 0, byte(intSize), 8, archiveCustom})
	if minor >= 15 {
		w.WriteByte(0)
	} else {
		w.int(-1)
	}
	for _, v := range []int{1, 2, 3, 4, 5, 124, 0} { // 4 June 2024, 03:02:01
		w.int(v)
	}
	w.string("db")
	w.string("15.1")
	w.string("16.2")
	w.int(len(entries))
	for _, e := range entries {
		w.int(e.ID)
		w.int(0)
		w.string(strconv.FormatUint(uint64(e.TableOID), 10))
		w.string(strconv.FormatUint(uint64(e.OID), 10))
		w.string(e.Tag)
		w.string(e.Kind)
		w.int(int(e.Section))
		w.string(e.Definition)
		w.string(e.Drop)
		w.int(-1)
		w.string(e.Schema)
		w.int(-1)
		if minor >= 14 {
			w.string(e.AccessMethod)
		}
		if minor >= 16 {
			w.int(int(e.RelKind))
		}
		w.string(e.Owner)
		w.string("false")
		for _, d := range e.Dependencies {
			w.string(strconv.Itoa(d))
		}
		w.int(-1)
		w.Write([]byte{3, 0, 0, 0, 0, 0, 0, 0, 0})
	}
	return w.Bytes()
}

func sampleEntries(minor int) []Entry {
	e := Entry{ID: 7, TableOID: 1259, OID: 4294967295, Tag: "t", Kind: "TABLE", Section: SectionPreData, Definition: "CREATE TABLE s.t ();\n",
		Drop: "DROP TABLE s.t;\n", Schema: "s", Owner: "o"}
	if minor >= 14 {
		e.AccessMethod = "heap"
	}
	if minor >= 16 {
		e.RelKind = 'r'
	}
	return []Entry{e, {ID: 9, Tag: "TABLE t", Kind: "COMMENT", Section: SectionNone, Definition: "COMMENT", Dependencies: []int{7, 3}}}
}

func TestParseArchiveOfEachVersion(t *testing.T) {
	t.Parallel()
	for minor := archiveMinMinor; minor <= archiveMaxMinor; minor++ {
		for _, size := range []int{4, 8} {
			want := sampleEntries(minor)
			a, err := Parse(encodeArchive(minor, size, want...))
			require.NoError(t, err, "1.%d", minor)
			require.Equal(t, want, a.Entries)
			require.Equal(t, "db 15.1 16.2", a.Database+" "+a.ServerVersion+" "+a.DumpVersion)
			require.Equal(t, "2024-06-04T03:02:01Z", a.Created.Format("2006-01-02T15:04:05Z07:00"))
		}
	}
}

func TestParseArchiveRefuses(t *testing.T) {
	t.Parallel()
	good := encodeArchive(14, 4, sampleEntries(14)...)
	for n := range good {
		_, err := Parse(good[:n])
		require.ErrorIs(t, err, ErrArchive, "cut at byte %d", n)
	}
	for name, data := range map[string][]byte{
		"too new":         encodeArchive(17, 4),
		"too old":         encodeArchive(11, 4),
		"ids not unique":  encodeArchive(14, 4, Entry{ID: 1}, Entry{ID: 1}),
		"id out of range": encodeArchive(14, 4, Entry{ID: 0}),
		"plain text":      []byte("--\n-- PostgreSQL database dump\n--\n"),
	} {
		_, err := Parse(data)
		require.ErrorIs(t, err, ErrArchive, name)
	}
	huge := append([]byte(nil), good...)
	at := bytes.Index(huge, []byte("16.2")) + len("16.2")
	copy(huge[at:], []byte{0, 0xff, 0xff, 0xff, 0x7f})
	_, err := Parse(huge)
	require.ErrorContains(t, err, "entry count")
}
