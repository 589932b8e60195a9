package cutover

import (
	"context"
	"time"
)

// Replication is the stream from the closing to the opening side. Its methods may be called side by side.
type Replication interface {
	// Lag says how far the stream is behind.
	Lag(ctx context.Context) (Lag, error)

	// WaitMarker returns when the transaction of the marker, and so everything before it, is committed on the opening
	// side (C15). From the marker on the stream applies nothing: what else it reads goes to Tripped.
	WaitMarker(ctx context.Context, m Marker) error

	// Continue ends the wait at a marker whose fence was removed: the stream applies again. Without a marker it does
	// nothing.
	Continue(ctx context.Context, epoch int64) error

	// Tripped gives what the stream reads behind a marker and is not ours (C17). It is never closed; one reader.
	Tripped() <-chan Trip
}

// Marker names the message that proves the stream is drained.
type Marker struct {
	Epoch int64
	Nonce string
	LSN   string // a hint: where the fence said it is, or empty
}

// Lag is how far the stream is behind.
type Lag struct {
	Bytes int64
	Delay time.Duration
}

// Trip is a transaction behind the marker.
type Trip struct {
	Epoch  int64
	Detail string // transaction, LSN and table
}
