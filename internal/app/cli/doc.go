// Package cli is the command line of Crossfade: flags, exit codes, and what is printed. The
// commands are implemented in internal/app/daemon; the answers of a running daemon come through
// internal/app/control.
//
// Every flag has a variable of the same name with the prefix CROSSFADE_. Exit codes: 0 done, 1
// refused or failed with nothing changed, 2 usage, 3 could not complete. An error is one line that
// says what is wrong and what to do.
package cli
