package machine

// locks takes note of pre-locks that end before they are released.
type locks struct{ *transition }

// lost: a pre-lock is gone. The attempt continues; fence and decision take their locks themselves,
// bounded.
func (l locks) lost(e LockLost) {
	switch {
	case e.Gen == 0:
	case e.Side == SideSource && e.Gen == l.GenOf.SourceLock && l.Held&HeldSourceLock != 0:
		l.Held &^= HeldSourceLock
		l.note("prelock_source", "let go: "+e.Reason)
	case e.Side == SideTarget && e.Gen == l.GenOf.TargetLock && l.Held&HeldTargetLock != 0:
		l.Held &^= HeldTargetLock
		l.note("prelock_target", "let go: "+e.Reason)
	}
}

// wanted: the applier meets TRUNCATE or DDL and gets the pre-lock. It is taken again after the
// marker. Once the marker has been applied the applier cannot need it: the lock is then part of the
// decision.
func (l locks) wanted() {
	if l.Held&HeldTargetLock == 0 || l.Phase < PhasePrelock || l.Phase > PhaseMarker {
		return
	}
	l.Held &^= HeldTargetLock
	l.note("prelock_target", "given to the stream, which meets TRUNCATE or DDL")
	l.emit(Call{Op: OpYieldTarget, Gen: l.Gen, Epoch: l.Epoch, Direction: l.Direction, Bound: bound(OpYieldTarget, l.Limits)})
}
