package extension_test

import (
	"testing"

	"crossfade/internal/pgcluster/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }
