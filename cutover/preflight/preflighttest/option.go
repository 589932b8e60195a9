package preflighttest

import (
	"time"

	"crossfade/cutover/preflight/inquiry"
)

// CopyMode asks for a copy.
func CopyMode(o *inquiry.Options) { o.Mode = inquiry.Copy }

// Resume asks for a run that goes on.
func Resume(o *inquiry.Options) { o.Resume = true }

// AnyAge has each transaction be a long one.
func AnyAge(o *inquiry.Options) { o.LongTransaction = time.Nanosecond }
