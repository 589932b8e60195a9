package compare

import (
	"context"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/control"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/replicate/extras/sequence"
	"crossfade/schema/fingerprint"
)

// following says that the second side follows, and gets the rest with a decision.
type following struct {
	checks []string // names of check constraints that come with it
}

// compareRest compares what is not in rows: sequences and definitions. It returns what is not equal,
// and how many sequences there are. f is nil for sides that are both complete.
func compareRest(ctx context.Context, from, to *pgx.Conn, f *following) (found []journal.Found, sequences int, err error) {
	found, sequences, err = behind(ctx, from, to, f != nil)
	if err != nil {
		return nil, 0, err
	}
	opts := fingerprint.Options{}
	if f != nil {
		opts = fingerprint.Options{Deferred: true, Checks: f.checks}
	}
	a, err := fingerprint.Take(ctx, from, opts)
	if err != nil {
		return nil, 0, pg.Wrap(err, "source")
	}
	b, err := fingerprint.Take(ctx, to, opts)
	if err != nil {
		return nil, 0, pg.Wrap(err, "target")
	}
	for _, d := range fingerprint.Drift(a, b) {
		found = append(found, journal.Found{Kind: journal.KindDefinition,
			Proof: journal.Proof{Table: pg.Name{Schema: d.Kind, Name: d.Name}, Verdict: control.Different, Reason: d.String()}})
	}
	return found, sequences, nil
}

func behind(ctx context.Context, from, to *pgx.Conn, missingOnly bool) ([]journal.Found, int, error) {
	all, n, err := sequence.FindBehind(ctx, from, to, missingOnly)
	return lists.Map(all, func(b sequence.Behind) journal.Found {
		return journal.Found{Kind: journal.KindSequence, Proof: journal.Proof{Table: b.Name, Verdict: control.Different, Reason: b.String()}}
	}), n, err
}

// Sequences compares the sequences of two sides that are both complete, and says how many there are.
func Sequences(ctx context.Context, from, to *pgx.Conn) ([]control.VerifyDifference, int, error) {
	found, n, err := behind(ctx, from, to, false)
	return differences(found), n, err
}
