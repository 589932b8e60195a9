package proxy

import (
	"github.com/prometheus/client_golang/prometheus"

	"crossfade/internal/base/obs"
)

// register makes the metrics.
func (p *Proxy) register(reg prometheus.Registerer) error {
	if reg == nil {
		return nil
	}
	gauge := func(name, help string, f func(Status) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: obs.Namespace, Subsystem: "proxy", Name: name, Help: help},
			func() float64 { return f(p.Status()) })
	}
	counter := func(name, help string, f func(Status) float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: obs.Namespace, Subsystem: "proxy", Name: name, Help: help},
			func() float64 { return f(p.Status()) })
	}
	for _, c := range []prometheus.Collector{
		gauge("sessions", "Sessions of clients.", func(s Status) float64 { return float64(s.Sessions) }),
		gauge("sessions_in_transaction", "Sessions within a transaction.", func(s Status) float64 { return float64(s.InTransaction) }),
		gauge("sessions_parked", "Sessions that the closed gate holds.", func(s Status) float64 { return float64(s.Parked) }),
		gauge("replication_connections", "Replication connections; they cannot be moved.", func(s Status) float64 { return float64(s.Streams) }),
		gauge("logins_waiting", "Logins that wait at the closed gate.", func(s Status) float64 { return float64(s.Waiting) }),
		gauge("strangers", "Connections that have not authenticated.", func(s Status) float64 { return float64(s.Unauthenticated) }),
		counter("strangers_refused_total", "Connections that had not authenticated and gave way to others.", func(s Status) float64 { return float64(s.Crowded) }),
		counter("client_errors_total", "Clients that were ended while a move was under way.", func(s Status) float64 { return float64(s.ClientErrors) }),
		counter("disconnected_total", "Sessions that could not be moved and were ended.", func(s Status) float64 { return float64(s.Disconnected) }),
		counter("revived_total", "Sessions whose idle server went away and that continue on another.", func(s Status) float64 { return float64(s.Revived) }),
		counter("orphans_cancelled_total", "Statements that were cancelled because their client was gone.", func(s Status) float64 { return float64(s.Abandoned) }),
		counter("panics_total", "Sessions that a bug has ended.", func(s Status) float64 { return float64(s.Panics) }),
	} {
		if err := reg.Register(c); err != nil {
			return err
		}
	}
	return nil
}
