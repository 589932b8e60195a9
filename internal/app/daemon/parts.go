package daemon

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"crossfade/cutover"
	"crossfade/internal/app/compare"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/definitions"
	"crossfade/internal/app/logins"
	"crossfade/internal/app/matviews"
	"crossfade/internal/app/migration"
	"crossfade/internal/app/options"
	"crossfade/internal/app/ports"
	"crossfade/internal/app/runs"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/pg"
	"crossfade/proxy"
)

// core is what every part of a run needs: what was asked for, and the domains.
type core struct {
	cfg         options.Run
	log         zerolog.Logger
	incarnation string // names this process in the journal

	users       *logins.Users
	proxy       *proxy.Proxy
	migration   *migration.Migration
	stream      *ports.Following
	coordinator *cutover.Coordinator
	verify      *ports.Verification
	comparison  *compare.Job
	registrar   *ports.Registrar
	source      *ports.Source
	target      *ports.Target
	left        *ports.Completion
	gateClosed  atomic.Pointer[time.Time] // for the attempt under way
	wayBack     *wayBack                  // nil for none

	mu     sync.Mutex
	failed error // why the migration stopped
}

// sessions are the run's own to both databases.
type sessions struct {
	links          []*dbconn.Link
	watching       *dbconn.Link // of the monitor
	marking        *dbconn.Link // to the target, for what is kept there
	sourceActivity *dbconn.Link // to the source, for what its sessions do
}

// watches are what is asked while a run follows.
type watches struct {
	cover         *watch.Coverage
	members       *watch.Members
	guard         *watch.Guard
	watchlist     *watch.List
	views         *matviews.Keeper
	targetWriters watch.TargetWriters
	definitions   *definitions.Comparer
	pulse         *watch.Pulse
}

// entry finds the run of two databases or begins one, and waits for a side that was away.
type entry struct {
	core *core

	id        runs.Identity
	plain     [2]pg.DSN // source and target as they were given, where the configuration has them with the run's tag
	lead      *runs.Leader
	versions  [2]int  // server_version_num of source and target
	lastEpoch int64   // of a run that an earlier start has finished
	missing   string  // the side that was away at the start, "" for none
	joining   joining // what is to be done when it comes
	away      error   // why that side is not there yet
}

// follower takes the run to the stream, follows, and ends the migration where it costs the source
// too much.
type follower struct {
	core     *core
	sessions *sessions
	watches  *watches
	entry    *entry

	stuck         error // why it waits
	contention    *contention
	stopMigration context.CancelCauseFunc
}

// finisher ends a run for good.
type finisher struct {
	core     *core
	sessions *sessions
	watches  *watches
	entry    *entry
}

// answers report the state of the run to operators, and take their requests.
type answers struct {
	core     *core
	sessions *sessions
	watches  *watches
	entry    *entry
	follower *follower
	finisher *finisher
}

// requests implements what the control socket asks for.
type requests struct {
	*answers
	*finisher
}
