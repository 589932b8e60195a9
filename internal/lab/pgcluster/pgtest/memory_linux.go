package pgtest

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// shmDir is where Linux mounts a file system that is kept in RAM.
const shmDir = "/dev/shm"

// shmNeeded is how many bytes must be free in it and in RAM: enough for the
// clusters of two test binaries with the largest tables that tests make, twice over.
const shmNeeded = 6 << 30

// clusterDir returns the directory to make clusters in: in memory where there is room,
// since tests make and drop hundreds of databases of 300 files each, at which ext4 is slow;
// otherwise "", the system's temporary directory.
func clusterDir() string {
	var fs syscall.Statfs_t
	const tmpfs = 0x01021994 // TMPFS_MAGIC of linux/magic.h
	if err := syscall.Statfs(shmDir, &fs); err != nil || fs.Type != tmpfs || fs.Bavail*uint64(fs.Bsize) < shmNeeded {
		return ""
	}
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil || available(string(info)) < shmNeeded {
		return ""
	}
	return shmDir
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
