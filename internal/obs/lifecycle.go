package obs

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// Lifecycle tells the states of one component: a line in the log for each
// change, and the gauge crossfade_state, which is 1 for the state that the
// component is in. Safe for concurrent use.
type Lifecycle struct {
	log       zerolog.Logger
	component string
	gauge     *prometheus.GaugeVec

	mu struct {
		sync.Mutex
		state string
		since time.Time
	}
}

// NewLifecycle returns a lifecycle without a state. Several components share
// one registry, each under its own name. A registry that holds another metric
// under the same name is an error.
func NewLifecycle(log zerolog.Logger, reg prometheus.Registerer, component string) (*Lifecycle, error) {
	gauge := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: Namespace,
		Name:      "state",
		Help:      "1 for the state that a component is in.",
	}, []string{"component", "state"})
	if err := reg.Register(gauge); err != nil {
		already := prometheus.AlreadyRegisteredError{}
		shared, ok := (*prometheus.GaugeVec)(nil), false
		if errors.As(err, &already) {
			shared, ok = already.ExistingCollector.(*prometheus.GaugeVec)
		}
		if !ok {
			return nil, fmt.Errorf("register state metric: %w", err)
		}
		gauge = shared
	}
	return &Lifecycle{
		log:       Component(log, component),
		component: component,
		gauge:     gauge,
	}, nil
}

// To enters a state and tells it. Entering the present state does nothing.
// More fields of the line come from the functions in more.
func (l *Lifecycle) To(state string, more ...func(*zerolog.Event)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from, since := l.mu.state, l.mu.since
	if from == state {
		return
	}
	now := time.Now()
	l.mu.state, l.mu.since = state, now

	event := l.log.Info().Str(KeyState, state)
	if from != "" {
		l.gauge.DeleteLabelValues(l.component, from)
		event = event.Str(KeyFrom, from).Int64(KeyDuration, now.Sub(since).Milliseconds())
	}
	l.gauge.WithLabelValues(l.component, state).Set(1)
	for _, add := range more {
		add(event)
	}
	event.Msg("state changed")
}

// State returns the present state, "" before the first.
func (l *Lifecycle) State() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.state
}
