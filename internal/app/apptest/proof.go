package apptest

import (
	"context"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/cutover"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/ports"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/verify"
)

// NewProofs makes a fixture whose tables have equal rows.
func NewProofs(t *testing.T) *PortsFixture {
	t.Helper()
	b := NewPortsFixture(t)
	pgtest.Exec(t, b.Source, "INSERT INTO public.a SELECT i, 'v' || i FROM generate_series(1, 500) i; INSERT INTO public.b SELECT i, i FROM generate_series(1, 500) i")
	pgtest.Exec(t, b.Target, "SET crossfade.key = 'k'; INSERT INTO public.a SELECT i, 'v' || i FROM generate_series(1, 500) i; INSERT INTO public.b SELECT i, i FROM generate_series(1, 500) i")
	return b
}

// VerificationOf is one as a start of the program has it.
func VerificationOf(b *PortsFixture, source pg.DSN) *ports.Verification {
	link := dbconn.New(b.TargetDSN)
	v := &ports.Verification{Source: source, Target: b.TargetDSN, Journal: link, Log: zerolog.Nop(), Tables: func(context.Context) ([]verify.Table, error) {
		return []verify.Table{{Name: pg.Name{Schema: "public", Name: "a"}, Columns: []string{"id", "v"}, Key: []string{"id"}},
			{Name: pg.Name{Schema: "public", Name: "b"}, Columns: []string{"id", "a_id"}, Key: []string{"id"}}}, nil
	}}
	b.T.Cleanup(func() {
		v.End()
		link.Close()
	})
	return v
}

// AwaitVerdict waits for the end of a comparison, and returns what came of it.
func AwaitVerdict(t *testing.T, v *ports.Verification) cutover.VerificationStatus {
	t.Helper()
	require.Eventually(t, func() bool { return v.Ended() }, pgtest.Timeout, 10*time.Millisecond, "the comparison ends")
	return v.Status()
}
