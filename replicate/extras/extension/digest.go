package extension

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"

	"github.com/jackc/pgx/v5"
)

// Digest sums up what users keep in configuration tables, as Copy would copy it: two digests of a
// database are equal where these rows are, in whatever order. Left out are jobs of pg_cron, which
// SyncJobs carries over, the history of their runs, a log that grows with each, and sequences,
// which come with the rows that took numbers from them.
func Digest(ctx context.Context, conn *pgx.Conn) (string, error) {
	tables, err := Tables(ctx, conn)
	if err != nil {
		return "", err
	}
	all := sha256.New()
	for _, t := range tables {
		if t.Sequence || t.Extension == cron {
			continue
		}
		rows := &rowSums{line: sha256.New()}
		if _, err := conn.PgConn().CopyTo(ctx, rows, t.out()); err != nil {
			return "", t.failed("read", err)
		}
		if rows.n > 0 {
			fmt.Fprintf(all, "%s %d %x\n", t.Name, rows.n, rows.sum)
		}
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

// rowSums adds up the hashes of lines, so that their order does not count.
type rowSums struct {
	line hash.Hash
	sum  [sha256.Size]byte
	n    int64
}

// Write takes the text of a COPY.
func (r *rowSums) Write(b []byte) (int, error) {
	n := len(b)
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			r.line.Write(b)
			return n, nil
		}
		r.line.Write(b[:i])
		var carry uint
		one := r.line.Sum(nil)
		for k := range slices.Backward(one) {
			carry += uint(r.sum[k]) + uint(one[k])
			r.sum[k] = byte(carry)
			carry >>= 8
		}
		r.line.Reset()
		r.n++
		b = b[i+1:]
	}
}
