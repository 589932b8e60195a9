package daemon

import (
	"testing"

	"crossfade/internal/neonlike/neontest"
	"crossfade/internal/pgcluster/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m, neontest.Close) }
