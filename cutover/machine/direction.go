package machine

// Side names one of the two databases. The zero Side is none.
type Side string

const (
	SideSource Side = "source"
	SideTarget Side = "target"
)

// Direction says which side an epoch closes and which it opens. In everything below, "closing side"
// is the one that is active until the decision and "opening side" the one that is active after it.
type Direction string

const (
	Forward Direction = "forward" // closes the source, opens the target
	Reverse Direction = "reverse" // a fallback: closes the target, opens the source
)

// Closing is the side that is active before the decision.
func (d Direction) Closing() Side {
	if d == Reverse {
		return SideTarget
	}
	return SideSource
}

// Opening is the side that is active after the decision.
func (d Direction) Opening() Side {
	if d == Reverse {
		return SideSource
	}
	return SideTarget
}
