package preflighttest

import (
	"time"

	"crossfade/cutover/preflight/inquiry"
)

// CopyMode asks for a copy.
func CopyMode(o *inquiry.Options) { o.Mode = inquiry.Copy }

// Resume asks for the checks of a run that is continued.
func Resume(o *inquiry.Options) { o.Resume = true }

// AnyAge has each transaction be a long one.
func AnyAge(o *inquiry.Options) { o.LongTransaction = time.Nanosecond }
