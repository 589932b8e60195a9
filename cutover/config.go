package cutover

import (
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"crossfade/cutover/machine"
)

// Ports are the two sides of one direction, and what connects them. For a fallback the roles are
// exchanged: Source is then the port of the target database.
type Ports struct {
	Source       Source
	Target       Target
	Replication  Replication
	Verification Verification
}

// Config of a Coordinator.
type Config struct {
	Journal Journal
	Traffic Traffic
	Forward Ports
	// Reverse is nil while there is no reverse stream: then there is no way back, and the plan and
	// the report say so.
	Reverse *Ports
	Limits  machine.Limits
	// Blocked is called when a request arrives that the step allows; what it returns refuses the
	// request. Nil blocks nothing. It must not block itself.
	Blocked func(machine.Direction) []machine.Obstacle
	// Nonce makes the nonce of a marker. Nil makes random ones.
	Nonce func() string
	Log   zerolog.Logger
}

// Validate says what is missing.
func (c Config) Validate() error {
	if c.Journal == nil || c.Traffic == nil {
		return errors.New("coordinator without journal or traffic")
	}
	if err := c.Forward.validate(); err != nil {
		return fmt.Errorf("forward: %w", err)
	}
	if c.Reverse != nil {
		if err := c.Reverse.validate(); err != nil {
			return fmt.Errorf("reverse: %w", err)
		}
	}
	return c.Limits.Validate()
}

// ports returns the ports of a direction.
func (c *Config) ports(d machine.Direction) Ports {
	if d == machine.Reverse && c.Reverse != nil {
		return *c.Reverse
	}
	return c.Forward
}

// blocked says what refuses a cutover that the step allows.
func (c *Config) blocked(d machine.Direction) []machine.Obstacle {
	if c.Blocked == nil {
		return nil
	}
	return c.Blocked(d)
}

func (p Ports) validate() error {
	if p.Source == nil || p.Target == nil || p.Replication == nil || p.Verification == nil {
		return errors.New("a port is missing")
	}
	return nil
}

// Bounds of the coordinator itself.
const (
	// laneGrace is how long a call waits for the one before it on the same port, which was
	// cancelled. A port that ignores the end of its context must not keep the gate closed.
	laneGrace = time.Second
	// shutdownBound is how long Run continues after its context has ended, to undo an attempt or to
	// complete a switch. A service manager would kill a process that took longer; the next start
	// does what is left.
	shutdownBound = 30 * time.Second
)
