//go:build !linux

package poll

import "syscall"

// ReadNow reads without waiting: syscall.EAGAIN says that there is nothing, and no byte
// without an error that there never will be.
func ReadNow(fd int, p []byte) (int, error) {
	for {
		n, err := syscall.Read(fd, p)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

// WriteNow is for Linux, where there is an event loop.
func WriteNow(int, []byte) (int, error) { return 0, syscall.EAGAIN }
