package oneshot

import (
	"testing"

	"crossfade/internal/lab/neonlike/neontest"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m, neontest.Close) }
