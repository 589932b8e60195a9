package neonlike

import (
	"bytes"
	"context"
	"math"
	"regexp"
	"strings"
	"sync"
)

// Statements that Neon refuses and plain PostgreSQL does not, or with another message. A
// statement is looked at as text: what a function or a DO block executes is not seen.
var (
	makesTablespace = regexp.MustCompile(`(?is)(?:^|;)\s*CREATE\s+TABLESPACE\s`)
	setsPassword    = regexp.MustCompile(`(?is)(?:^|;)\s*(?:CREATE|ALTER)\s+(?:ROLE|USER)\s.*?\bPASSWORD\s+'((?:[^']|'')*)'`)
	// makesBigger are statements for which a full disk has no room. One that finds
	// room in a page that is there would pass in truth; here it does not.
	makesBigger = regexp.MustCompile(`(?is)(?:^|;)\s*(?:INSERT\s|UPDATE\s|MERGE\s|WITH\s.*\bINSERT\s+INTO\s|REFRESH\s|REINDEX\s|CLUSTER\b|ALTER\s+TABLE\s|` +
		`CREATE\s+(?:UNIQUE\s+)?INDEX\s|CREATE\s+(?:UNLOGGED\s+)?TABLE\s|CREATE\s+MATERIALIZED\s)`)
	hashed = regexp.MustCompile(`^(?:SCRAM-SHA-256\$.+|md5[0-9a-f]{32})$`)
)

// minEntropy is what Neon asks of a password, in bits.
const minEntropy = 60

// guard looks at what one client sends.
type guard struct {
	session *session
	bigger  map[string]bool // prepared statements that need room, by name
	credit  int64           // bytes of the COPY until the disk is looked at again
	failed  bool            // the COPY has been ended
	simple  bool            // the last statement was a Query
}

// statement says why Neon refuses a Query, Parse, Bind or Close, nil if it does not.
func (g *guard) statement(ctx context.Context, typ byte, body []byte) *pgError {
	first, rest, ok := cutZero(body)
	if !ok {
		return nil
	}
	sql, needsDisk := "", false
	g.credit, g.failed, g.simple = 0, false, typ == 'Q'
	switch typ {
	case 'Q':
		sql = first
		needsDisk = makesBigger.MatchString(sql)
	case 'P':
		if sql, _, ok = cutZero(rest); !ok {
			return nil
		}
		needsDisk = makesBigger.MatchString(sql)
		if g.bigger == nil {
			g.bigger = map[string]bool{}
		}
		g.bigger[first] = needsDisk
	case 'B':
		name, _, _ := cutZero(rest)
		needsDisk = g.bigger[name]
	case 'C':
		if strings.HasPrefix(first, "S") {
			delete(g.bigger, first[1:])
		}
		return nil
	}
	if sql != "" {
		if said := refused(sql); said != nil {
			return said
		}
	}
	if needsDisk {
		return g.session.endpoint.full(ctx)
	}
	return nil
}

// refused says why Neon never executes a statement.
func refused(sql string) *pgError {
	if makesTablespace.MatchString(sql) {
		return &pgError{code: "0A000", message: "CREATE TABLESPACE is not supported on Neon"}
	}
	if m := setsPassword.FindStringSubmatch(sql); m != nil {
		switch password := strings.ReplaceAll(m[1], "''", "'"); {
		case hashed.MatchString(password):
			return refusal("Received HTTP code 400 from control plane: Hashed passwords are not supported")
		case entropy(password) < minEntropy:
			return refusal("Received HTTP code 400 from control plane: password is too weak: it must have at least %d bits of entropy", minEntropy)
		}
	}
	return nil
}

// entropy is what a password of random characters of the kinds in it would have.
func entropy(password string) float64 {
	kinds := 0
	for _, k := range []string{"abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"} {
		if strings.ContainsAny(password, k) {
			kinds += len(k)
		}
	}
	if strings.ContainsFunc(password, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	}) {
		kinds += 32
	}
	if kinds == 0 {
		return 0
	}
	return float64(len([]rune(password))) * math.Log2(float64(kinds))
}

// checkDiskEvery is how many bytes of COPY pass between two checks of a disk that may be full.
const checkDiskEvery = 256 << 10

// data says that a COPY has no room for a CopyData of that size.
func (g *guard) data(ctx context.Context, size int64) *pgError {
	if g.failed {
		return nil
	}
	if g.credit -= size; g.credit > 0 {
		return nil
	}
	g.credit = checkDiskEvery
	said := g.session.endpoint.full(ctx)
	g.failed = said != nil
	return said
}

// spoil is the body of a message that fails in place of one that is refused.
func spoil(typ byte) []byte {
	const nothing = "neonlike: refused by the front"
	switch typ {
	case 'Q':
		return []byte(nothing + "\x00")
	case 'P':
		return []byte("\x00" + nothing + "\x00\x00\x00")
	default: // Bind of a statement that does not exist
		return bytes.Join([][]byte{{0}, []byte(nothing), {0, 0, 0, 0, 0, 0, 0}}, nil)
	}
}

// spoilt are the refusals whose errors the compute has yet to report, each in the words of
// the compute itself.
type spoilt struct {
	mu      sync.Mutex
	queries int // asked for by the client
	replies int // answered by the compute
	waiting []spoiltOne
}

type spoiltOne struct {
	query int
	said  *pgError
}

// add expects an error of the query that the client is about to complete, or has
// asked for already.
func (s *spoilt) add(said *pgError, already bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	query := s.queries
	if already {
		query--
	}
	s.waiting = append(s.waiting, spoiltOne{query, said})
}

// asked counts a message that ReadyForQuery answers.
func (s *spoilt) asked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queries++
}

// answered drops the refusals of the answered query: an error before them had the
// compute pass over them.
func (s *spoilt) answered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.waiting) > 0 && s.waiting[0].query <= s.replies {
		s.waiting = s.waiting[1:]
	}
	s.replies++
}

// take returns the words for an error that the compute reports, nil for its own.
func (s *spoilt) take() *pgError {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 || s.waiting[0].query > s.replies {
		return nil
	}
	said := s.waiting[0].said
	s.waiting = s.waiting[1:]
	return said
}
