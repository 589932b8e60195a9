//go:build unix

package pg

import (
	"os"
	"syscall"
)

// openTo is whom a private key may not be open to: group and world or, where root has given it to a
// group, the world.
func openTo(info os.FileInfo) os.FileMode {
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid == 0 {
		return 0o037
	}
	return 0o077
}
