package ports

import "time"

// Bounds of what the ports wait for. The cutover's own are in cutover/machine.
const (
	// fenceTries bounds how often the fence asks for its locks in one pause:
	// with the default lock timeout of 200 ms a second in all.
	fenceTries = 5
	// unattended lets the server end a pre-lock, a fence or a decision whose client has gone
	// silent between two of its statements: they follow each other at once, and a pre-lock
	// is used every prelockBeat.
	unattended = "SET LOCAL idle_in_transaction_session_timeout = '20s';"
	// prelockPatience is how long the pre-lock waits for one table: longer than deadlock_timeout,
	// after which PostgreSQL cancels an autovacuum that is in the way. Writers pass a waiting
	// request of this mode, and the guard releases the lock for sessions that do not.
	prelockPatience = 3 * time.Second
	// prelockBeat is how often the session of a pre-lock says something.
	prelockBeat = 4 * time.Second
	// wakeTimeout is how long a row of cron.job is waited for, which an operator may hold.
	wakeTimeout = 100 * time.Millisecond
	// DecisionLockTimeout bounds each lock of the decision. Only our own
	// applier writes the target then, a batch at a time.
	DecisionLockTimeout = 2 * time.Second
	// lagPatience is how long an attempt waits for the stream to catch up before its limit is
	// checked.
	lagPatience = 10 * time.Second
	// preparedPatience is how old a prepared transaction may be to count as one that its
	// application is about to end: longer than the other databases of a distributed
	// transaction take to prepare, shorter than a person takes.
	preparedPatience = 5 * time.Second
	// prepareTimeout bounds the fence's preparation on the source, which waits
	// for the application's transactions in turns.
	prepareTimeout = 30 * time.Second
)
