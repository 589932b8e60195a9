package pgtest

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// memory is where Linux mounts a file system that lives in memory.
const memory = "/dev/shm"

// roomNeeded is what must be free of it, and of the machine's memory, in bytes: the
// clusters of two test binaries with the largest tables that tests make, twice over.
const roomNeeded = 6 << 30

// clusterDir returns the directory to make clusters in: in memory where there is room,
// since tests make and drop hundreds of databases of 300 files each, at which ext4 is slow;
// otherwise "", the system's temporary directory.
func clusterDir() string {
	var fs syscall.Statfs_t
	const tmpfs = 0x01021994 // TMPFS_MAGIC of linux/magic.h
	if err := syscall.Statfs(memory, &fs); err != nil || fs.Type != tmpfs || fs.Bavail*uint64(fs.Bsize) < roomNeeded {
		return ""
	}
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil || available(string(info)) < roomNeeded {
		return ""
	}
	return memory
}

// available reads MemAvailable of /proc/meminfo (see proc(5)), in bytes; 0 where it is not there.
func available(meminfo string) uint64 {
	for line := range strings.Lines(meminfo) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "MemAvailable:" && f[2] == "kB" {
			kib, _ := strconv.ParseUint(f[1], 10, 64)
			return kib << 10
		}
	}
	return 0
}
