package archive

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"
)

// Section is the part of a dump that an entry belongs to, as pg_dump numbers them.
type Section int

// The sections of pg_dump (pg_backup.h, teSection).
const (
	SectionNone     Section = 1
	SectionPreData  Section = 2
	SectionData     Section = 3
	SectionPostData Section = 4
)

// Archive is what a custom-format archive of pg_dump says about a schema: its
// header and its table of contents. Data blocks are not read.
type Archive struct {
	Major, Minor, Revision int       // version of the archive format, 1.12 to 1.16
	Created                time.Time // in the clock and zone of the machine that dumped
	Database               string    // name of the dumped database
	ServerVersion          string    // of the dumped server
	DumpVersion            string    // of pg_dump
	Entries                []Entry   // in the order in which pg_dump wrote them
}

// Entry is one entry of the table of contents. NULL strings read as "".
type Entry struct {
	ID           int    // dump id, unique in the archive, the same only within one archive
	TableOID     uint32 // catalog that holds the object on the source (pg_class, pg_constraint …)
	OID          uint32 // the object's oid on the source
	Tag          string // the object's name as pg_dump shows it
	Kind         string // pg_dump's "desc": TABLE, FK CONSTRAINT, COMMENT …
	Section      Section
	Definition   string // the SQL that makes it
	Drop         string // the SQL that drops it
	Copy         string // the COPY statement of a data entry
	Schema       string // "" for what lies in no schema
	Tablespace   string
	AccessMethod string // of a table
	RelKind      byte   // of a table, from 1.16 on, else 0
	Owner        string
	Dependencies []int // dump ids; some may not be in the archive
}

// LastID returns the highest number of an entry.
func (a *Archive) LastID() (last int) {
	for i := range a.Entries {
		last = max(last, a.Entries[i].ID)
	}
	return last
}

// ErrArchive is wrapped by every error of Parse.
var ErrArchive = errors.New("not a readable pg_dump archive")

const (
	archiveMagic    = "PGDMP"
	archiveCustom   = 1 // archCustom, the only format that is read
	archiveMinMinor = 12
	archiveMaxMinor = 16
	maxIntSize      = 8
	maxOffsetSize   = 16
	minEntrySize    = 24 // bytes that the smallest possible entry takes; bounds the entry count before memory is taken
)

// Parse reads the header and the table of contents of an archive that `pg_dump -Fc` wrote (formats
// 1.12 of PostgreSQL 9.0 to 1.16 of 17 and 18). It takes no more memory than a small multiple of
// len(data) and never panics. The strings of the result are copies.
func Parse(data []byte) (*Archive, error) {
	r := &archiveReader{data: data}
	a := r.header()
	if r.err == nil {
		a.Entries = r.entries(a)
	}
	if r.err != nil {
		return nil, fmt.Errorf("read archive at byte %d: %w: %w", r.pos, ErrArchive, r.err)
	}
	return a, nil
}

// header reads what stands before the table of contents.
func (r *archiveReader) header() *Archive {
	a := &Archive{}
	if string(r.take(len(archiveMagic))) != archiveMagic {
		r.fail("no archive signature")
		return a
	}
	a.Major, a.Minor, a.Revision = int(r.byte()), int(r.byte()), int(r.byte())
	if r.err == nil && (a.Major != 1 || a.Minor < archiveMinMinor || a.Minor > archiveMaxMinor) {
		r.fail("archive format %d.%d is not known (1.%d to 1.%d are); use the pg_dump of a PostgreSQL release from 12 to 18",
			a.Major, a.Minor, archiveMinMinor, archiveMaxMinor)
		return a
	}
	r.intSize, r.offsetSize = int(r.byte()), int(r.byte())
	if r.err == nil && (r.intSize < 1 || r.intSize > maxIntSize || r.offsetSize < 1 || r.offsetSize > maxOffsetSize) {
		r.fail("integer size %d or offset size %d is out of range", r.intSize, r.offsetSize)
		return a
	}
	if format := r.byte(); r.err == nil && format != archiveCustom {
		r.fail("format %d is not the custom format", format)
		return a
	}
	if a.Minor >= 15 {
		r.byte() // compression algorithm
	} else {
		r.int() // compression level
	}
	sec, minute, hour := r.int(), r.int(), r.int()
	day, month, year := r.int(), r.int(), r.int()
	r.int() // daylight saving flag
	a.Created = time.Date(year+1900, time.Month(month+1), day, hour, minute, sec, 0, time.UTC)
	a.Database, a.ServerVersion, a.DumpVersion = r.string(), r.string(), r.string()
	return a
}

// entries reads the table of contents.
func (r *archiveReader) entries(a *Archive) []Entry {
	count := r.int()
	if r.err != nil {
		return nil
	}
	if count < 0 || count > len(r.data)/minEntrySize {
		r.fail("entry count %d does not fit the archive's size", count)
		return nil
	}
	entries := make([]Entry, 0, count)
	seen := make(map[int]bool, count)
	for range count {
		e := r.entry(a.Minor)
		if r.err != nil {
			return nil
		}
		if e.ID <= 0 || seen[e.ID] {
			r.fail("dump id %d is out of range or not unique", e.ID)
			return nil
		}
		seen[e.ID] = true
		entries = append(entries, e)
	}
	return entries
}

func (r *archiveReader) entry(minor int) Entry {
	var e Entry
	e.ID = r.int()
	r.int() // whether there is data
	e.TableOID, e.OID = r.oid(), r.oid()
	e.Tag, e.Kind = r.string(), r.string()
	e.Section = Section(r.int())
	e.Definition, e.Drop, e.Copy = r.string(), r.string(), r.string()
	e.Schema, e.Tablespace = r.string(), r.string()
	if minor >= 14 {
		e.AccessMethod = r.string()
	}
	if minor >= 16 {
		e.RelKind = byte(r.int())
	}
	e.Owner = r.string()
	r.string() // WITH OIDS, gone since PostgreSQL 12
	e.Dependencies = r.dependencies()
	r.byte() // state of the data offset
	r.take(r.offsetSize)
	return e
}

// archiveReader reads the primitive values of an archive. The first error
// sticks, and everything that is read after it is zero.
type archiveReader struct {
	data       []byte
	pos        int
	intSize    int
	offsetSize int
	err        error
}

func (r *archiveReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// take returns the next n bytes, which stay the archive's.
func (r *archiveReader) take(n int) []byte {
	if r.err != nil {
		return nil
	}
	if n < 0 || n > len(r.data)-r.pos {
		r.err = io.ErrUnexpectedEOF
		return nil
	}
	b := r.data[r.pos : r.pos+n]
	r.pos += n
	return b
}

func (r *archiveReader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

// int reads a sign byte and a magnitude, least significant byte first.
func (r *archiveReader) int() int {
	sign := r.byte()
	var v uint64
	for i, b := range r.take(r.intSize) {
		v |= uint64(b) << (8 * i)
	}
	if v > math.MaxInt32 {
		r.fail("integer %d is out of range", v)
		return 0
	}
	if sign != 0 {
		return -int(v)
	}
	return int(v)
}

// string reads a length and as many bytes; a negative length is NULL.
func (r *archiveReader) string() string {
	n := r.int()
	if n < 0 {
		return ""
	}
	return string(r.take(n))
}

// oid reads an oid, which archives hold as decimal text.
func (r *archiveReader) oid() uint32 {
	s := r.string()
	if r.err != nil {
		return 0
	}
	v, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		r.fail("oid %.20q is not a number", s)
	}
	return uint32(v)
}

// dependencies reads dump ids, held as decimal text, up to a NULL.
func (r *archiveReader) dependencies() []int {
	var ids []int
	for r.err == nil {
		n := r.int()
		if n < 0 || r.err != nil {
			break
		}
		s := string(r.take(n))
		if r.err != nil {
			break
		}
		id, err := strconv.ParseInt(s, 10, 32)
		if err != nil {
			r.fail("dependency %.20q is not a number", s)
			break
		}
		ids = append(ids, int(id))
	}
	return ids
}
