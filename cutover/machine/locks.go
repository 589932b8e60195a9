package machine

// lockLost: a pre-lock is gone. The attempt goes on; fence and decision take their locks themselves, bounded.
func (t *transition) lockLost(e LockLost) {
	switch {
	case e.Gen == 0:
	case e.Side == SideSource && e.Gen == t.GenOf.SourceLock && t.Held&HeldSourceLock != 0:
		t.Held &^= HeldSourceLock
		t.note("prelock_source", "let go: "+e.Reason)
	case e.Side == SideTarget && e.Gen == t.GenOf.TargetLock && t.Held&HeldTargetLock != 0:
		t.Held &^= HeldTargetLock
		t.note("prelock_target", "let go: "+e.Reason)
	}
}

// lockWanted: the applier meets TRUNCATE or DDL and gets the pre-lock. It is taken again after the marker. Once the
// marker has been applied nobody can want it: the lock is then part of the decision.
func (t *transition) lockWanted() {
	if t.Held&HeldTargetLock == 0 || t.Phase < PhasePrelock || t.Phase > PhaseMarker {
		return
	}
	t.Held &^= HeldTargetLock
	t.note("prelock_target", "given to the stream, which meets TRUNCATE or DDL")
	t.emit(Call{Op: OpYieldTarget, Gen: t.Gen, Epoch: t.Epoch, Direction: t.Direction, Bound: bound(OpYieldTarget, t.Limits)})
}
