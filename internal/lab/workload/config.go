package workload

import (
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
)

// Driver is how a client talks to its server.
type Driver string

// The drivers: pgx in each of its query modes, and psql.
const (
	CacheStatement Driver = "pgx cache_statement"
	CacheDescribe  Driver = "pgx cache_describe"
	DescribeExec   Driver = "pgx describe_exec"
	Exec           Driver = "pgx exec"
	SimpleProtocol Driver = "pgx simple_protocol"
	PSQL           Driver = "psql"
)

// Drivers returns all drivers.
func Drivers() []Driver {
	return []Driver{CacheStatement, CacheDescribe, DescribeExec, Exec, SimpleProtocol, PSQL}
}

var modes = map[Driver]pgx.QueryExecMode{
	CacheStatement: pgx.QueryExecModeCacheStatement,
	CacheDescribe:  pgx.QueryExecModeCacheDescribe,
	DescribeExec:   pgx.QueryExecModeDescribeExec,
	Exec:           pgx.QueryExecModeExec,
	SimpleProtocol: pgx.QueryExecModeSimpleProtocol,
}

const (
	// defaultAnswerTimeout bounds one answer of the server. It is far beyond any
	// pause that is accepted: its end means that a session hangs.
	defaultAnswerTimeout = 60 * time.Second
	// reconnectEvery is how often a client that lost its connection tries again.
	reconnectEvery = 50 * time.Millisecond
)

// Config says who the clients are.
type Config struct {
	DSN           pg.DSN
	Scenario      Scenario
	Clients       int
	Drivers       []Driver      // dealt out in turn; Drivers() when empty
	PSQL          string        // path of psql; needed for the driver PSQL
	Rate          float64       // transactions per second of each client; 0 means as many as it can
	FirstClient   int           // number of the first client: numbers must not repeat in one ledger
	AnswerTimeout time.Duration // bound of one answer; 60 s when 0
	Seed          uint64        // of the choices; clients with one seed and number choose alike
}

// Validate says what is missing.
func (c Config) Validate() error {
	switch {
	case c.DSN.IsZero():
		return errors.New("workload has no connection string")
	case c.Scenario == nil:
		return errors.New("workload has no scenario")
	case c.Clients < 1:
		return fmt.Errorf("workload has %d clients: at least 1 is needed", c.Clients)
	case c.Rate < 0:
		return errors.New("workload has a negative rate")
	}
	for _, d := range c.Drivers {
		if _, ok := modes[d]; !ok && d != PSQL {
			return fmt.Errorf("workload has an unknown driver %q", d)
		}
	}
	for i := range c.Clients {
		if c.driver(i) == PSQL && c.PSQL == "" {
			return errors.New("workload has psql clients and no path of psql")
		}
	}
	return nil
}

func (c Config) driver(i int) Driver {
	ds := c.Drivers
	if len(ds) == 0 {
		ds = Drivers()
	}
	return ds[i%len(ds)]
}

func (c Config) answerTimeout() time.Duration {
	if c.AnswerTimeout > 0 {
		return c.AnswerTimeout
	}
	return defaultAnswerTimeout
}
