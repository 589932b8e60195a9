//go:build !failpoint

package failpoint

// Enabled tells whether this build can arm points.
const Enabled = false

// Here marks a point at which a test may kill the process. Safe for concurrent use.
func Here(name string) {}

// Err marks a point at which a test may inject an error. It returns nil
// unless the point is armed with "error". Safe for concurrent use.
func Err(name string) error { return nil }
