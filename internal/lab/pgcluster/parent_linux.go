package pgcluster

import "syscall"

// endWithParent has the kernel end a server like a crash when the program that started
// it is gone, however it ended.
func endWithParent(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGQUIT }
