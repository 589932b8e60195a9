package pg

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"

	"crossfade/internal/base/lists"
)

// LSN is a position in the write-ahead log of one server, in bytes. LSNs of two
// servers cannot be compared (PostgreSQL: pg_lsn type).
type LSN uint64

// String returns the form that PostgreSQL prints, such as 16/B374D848.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

// ScanText reads a column with the text of an LSN, and refuses NULL.
func (l *LSN) ScanText(v pgtype.Text) (err error) {
	*l, err = ParseLSN(v.String)
	return err
}

// ParseLSN reads PostgreSQL's text form of an LSN.
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	if !ok {
		return 0, fmt.Errorf("parse LSN %q: no slash in it", s)
	}
	h, err := strconv.ParseUint(hi, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("parse LSN %q: upper half is no hexadecimal number of 32 bits", s)
	}
	l, err := strconv.ParseUint(lo, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("parse LSN %q: lower half is no hexadecimal number of 32 bits", s)
	}
	return LSN(h<<32 | l), nil
}

// Snapshot is the value of pg_current_snapshot(): which transactions of one server are visible.
// Transaction numbers have 64 bits, the epoch included (PostgreSQL documentation 9.27.8).
type Snapshot struct {
	Xmin, Xmax uint64   // all below Xmin have ended, none from Xmax on was assigned
	Xip        []uint64 // in progress, Xmin <= x < Xmax, ascending
}

// ScanText reads a column with the text of a snapshot.
func (s *Snapshot) ScanText(v pgtype.Text) (err error) {
	*s, err = ParseSnapshot(v.String)
	return err
}

// ParseSnapshot reads the text form xmin:xmax:xip,xip,… In the snapshot that a replication slot
// exports, xmax may be lower than xmin: logical decoding moves it at commits that change the
// catalog only (snapbuild.c), and xmin counts. Xmax is raised to Xmin then.
func ParseSnapshot(s string) (Snapshot, error) {
	bad := func(why string) (Snapshot, error) {
		return Snapshot{}, fmt.Errorf("parse snapshot %q: %s", s, why)
	}
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return bad("want xmin:xmax:list")
	}
	var snap Snapshot
	var err error
	if snap.Xmin, err = strconv.ParseUint(parts[0], 10, 64); err != nil {
		return bad("xmin is no number")
	}
	if snap.Xmax, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return bad("xmax is no number")
	}
	snap.Xmax = max(snap.Xmax, snap.Xmin)
	if parts[2] == "" {
		return snap, nil
	}
	for _, p := range strings.Split(parts[2], ",") {
		x, err := strconv.ParseUint(p, 10, 64)
		if err != nil {
			return bad("the list holds something that is no number")
		}
		if x < snap.Xmin || x >= snap.Xmax {
			return bad("the list holds a transaction outside xmin and xmax")
		}
		snap.Xip = append(snap.Xip, x)
	}
	slices.Sort(snap.Xip)
	return snap, nil
}

func (s Snapshot) String() string {
	running := lists.Map(s.Xip, func(x uint64) string { return strconv.FormatUint(x, 10) })
	return fmt.Sprintf("%d:%d:%s", s.Xmin, s.Xmax, strings.Join(running, ","))
}

// Visible reports whether the snapshot sees the effects of the top-level
// transaction xid, given that the transaction has committed.
func (s Snapshot) Visible(xid uint64) bool {
	if xid < s.Xmin {
		return true
	}
	if xid >= s.Xmax {
		return false
	}
	_, in := slices.BinarySearch(s.Xip, xid)
	return !in
}

// Contains reports whether the snapshot sees every transaction that o sees. Of two
// snapshots of one server the later one does, as a rule; but one that was made by
// logical decoding may see a commit that sessions do not see yet.
func (s Snapshot) Contains(o Snapshot) bool {
	if slices.ContainsFunc(s.Xip, o.Visible) {
		return false
	}
	if o.Xmax <= s.Xmax {
		return true
	}
	running := o.Xmax - s.Xmax // of these o must see none
	for _, x := range o.Xip {
		if x >= s.Xmax {
			running--
		}
	}
	return running == 0
}

// Lacks lists the transactions that o sees and s does not, ascending: none where s contains o.
func (s Snapshot) Lacks(o Snapshot) (xids []uint64) {
	for _, x := range s.Xip {
		if o.Visible(x) {
			xids = append(xids, x)
		}
	}
	for x := s.Xmax; x < o.Xmax; x++ {
		if o.Visible(x) {
			xids = append(xids, x)
		}
	}
	return xids
}

// Widen returns the 64-bit transaction number nearest to Xmax whose low half is
// xid. The stream of changes carries only 32 bits.
func (s Snapshot) Widen(xid uint32) uint64 {
	base := s.Xmax &^ 0xffffffff
	full := base | uint64(xid)
	const half = 1 << 31
	switch {
	case full > s.Xmax+half && full >= 1<<32:
		return full - 1<<32
	case full+half < s.Xmax:
		return full + 1<<32
	}
	return full
}
