package poll

import (
	"syscall"
	"unsafe"
)

// ReadNow reads without waiting: syscall.EAGAIN says that there is nothing, and no byte without an
// error that there never will be. The runtime is not told of the system call: it does not block.
func ReadNow(fd int, p []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}

// WriteNow writes what the socket takes without waiting, n bytes. Where that is less than p,
// the error says why.
func WriteNow(fd int, p []byte) (n int, err error) {
	for n < len(p) {
		m, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&p[n])), uintptr(len(p)-n))
		switch errno {
		case 0:
			n += int(m)
		case syscall.EINTR:
		default:
			return n, errno
		}
	}
	return n, nil
}
