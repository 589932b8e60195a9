package apply_test

import (
	"flag"
	"testing"

	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestMain(m *testing.M) {
	// Each check is a conversation with two servers. The command line may ask for more.
	_ = flag.Set("rapid.checks", "25")
	pgtest.Main(m)
}
