//go:build !unix

package pg

import "os"

// openTo is whom a private key may not be open to.
func openTo(os.FileInfo) os.FileMode { return 0o077 }
