package proxy
import ("testing";"time")
func TestZZ(t *testing.T) {
	g := newRig(t)
	conn := g.dial(t)
	ctx := within(t)
	s := time.Now()
	r, err := g.Stage(ctx, 1); t.Log("stage", r, err, time.Since(s)); s = time.Now()
	pr, err := g.Pause(ctx, 1, time.Second); t.Log("pause", pr, err, time.Since(s)); s = time.Now()
	r, err = g.Restage(ctx, 1); t.Log("restage", r, err, time.Since(s)); s = time.Now()
	sr, err := g.Switch(ctx, 1, Target); t.Log("switch", sr, err, time.Since(s)); s = time.Now()
	t.Log(g.side(t, conn), time.Since(s)); s=time.Now()
	g.stop()
	t.Log("stop", time.Since(s)); 
}
