package cli

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// asCommand has the test's program be the command instead, for a test that needs a process
// of its own for it.
const asCommand = "CLI_TEST_IS_THE_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	goleak.VerifyTestMain(m)
}
