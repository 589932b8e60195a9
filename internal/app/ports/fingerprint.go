package ports

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/machine"
	"crossfade/internal/app/dbconn"
	"crossfade/schema/fingerprint"
)

// TakeFingerprint reads a side's schema for the cutover. What a server prints of an expression
// counts only if both sides have the same major version. Check constraints that late names come
// with the decision, and are left out. So are extensions: the comparison of definitions covers
// them, and does not count one that only the target has as a difference. The holder of a lock that
// it waits for is found through watch.
func TakeFingerprint(ctx context.Context, l, watch *dbconn.Link, majors [2]int, late func() []string) (machine.Fingerprint, error) {
	opts := fingerprint.Options{Deferred: true, NoExtensions: true}
	if late != nil {
		opts.Checks = late()
	}
	var taken fingerprint.Fingerprint
	err := l.Do(ctx, func(ctx context.Context, conn *pgx.Conn) (err error) {
		return l.NameHolder(ctx, watch, func() (err error) {
			taken, err = fingerprint.Take(ctx, conn, opts)
			return err
		})
	})
	if err != nil {
		return machine.Fingerprint{}, portError(err, false)
	}
	printed := majors[0] == majors[1]
	var out machine.Fingerprint
	for _, o := range taken.Objects {
		text := o.Definition
		if printed {
			text += "\x00" + o.Printed
		}
		out.Objects = append(out.Objects, machine.Object{Name: o.Kind + " " + o.Name, Sum: hash(text)})
	}
	slices.SortFunc(out.Objects, func(a, b machine.Object) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Sum, b.Sum)) })
	h := sha256.New()
	for _, o := range out.Objects {
		h.Write([]byte(o.Name + "\x00" + o.Sum + "\x00"))
	}
	out.Sum = hex.EncodeToString(h.Sum(nil))
	return out, nil
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
