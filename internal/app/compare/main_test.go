package compare_test

import (
	"testing"

	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }
