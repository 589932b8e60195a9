package control

import (
	"encoding/json"
	"time"

	"crossfade/cutover/machine"
	"crossfade/internal/base/lists"
)

// Status is the answer to `crossfade status --json`.
type Status struct {
	// Phase is copying, catching_up or following before the first cutover, a
	// step of the cutover (arming, pausing, fenced, draining, deciding, decided)
	// within one, on_target after it, finished in the end; stopped where the
	// migration has ended with an error while the source is active.
	Phase string `json:"phase"`
	// Active is the side that serves the clients: source or target.
	Active string `json:"active"`
	// ActiveAway says why the active side does not serve the applications now: it does not
	// answer. Empty where it does.
	ActiveAway string `json:"active_away,omitempty"`
	// Epoch numbers the attempts to change sides; 0 before the first.
	Epoch int64 `json:"epoch"`
	// RunID names the migration; it is part of the slot's name.
	RunID       string      `json:"run_id,omitempty"`
	Version     string      `json:"version,omitempty"` // of the daemon
	Copy        Copy        `json:"copy"`
	Replication Replication `json:"replication"`
	Proxy       Proxy       `json:"proxy"`
	// Ready says that a cutover asked for now would be tried. When it is false, Blockers says why.
	Ready bool `json:"ready"`
	// Blockers are the reasons why a cutover asked for now would be refused, and after the
	// switch those why a finish would be.
	Blockers []Blocker `json:"blockers"` // never null
	// Warnings are what the operator should know and what stops nothing yet.
	Warnings []Blocker `json:"warnings"` // never null
	Fallback Fallback  `json:"fallback"`
	Verify   Verify    `json:"verify"`
	// Operation is the operation that runs now, if any. The server of this package fills it.
	Operation *Operation `json:"operation,omitempty"`
}

// Ill is what is wrong with the whole, nil for nothing: the migration has ended with an error,
// or the applications have no database. It is what /v1/healthz and the exit code of
// `crossfade status` tell.
func (s Status) Ill() *Error {
	e := &Error{Remedy: "look at crossfade status"}
	switch {
	case s.Phase == PhaseStopped:
		e.Code, e.Message = CodeStopped, "the migration has stopped"
		if len(s.Blockers) > 0 {
			e.Message += ": " + s.Blockers[0].Detail
			e.Remedy = s.Blockers[0].Remedy
		}
	case s.ActiveAway != "":
		e.Code, e.Message = CodeAway, "the applications have no database: "+s.ActiveAway
		e.Remedy = "make the " + s.Active + " reachable; the applications are served again by themselves when it is"
	default:
		return nil
	}
	return e
}

// Copy is how far the first copy is.
type Copy struct {
	TablesDone  int   `json:"tables_done"`
	TablesTotal int   `json:"tables_total"`
	BytesDone   int64 `json:"bytes_done"`
	BytesTotal  int64 `json:"bytes_total"` // estimated from relation sizes
	RowsDone    int64 `json:"rows_done"`
	// MaxRateBytes bounds the copy, in bytes a second; 0 for no bound. Held says that
	// it is held by the budget of retained WAL.
	MaxRateBytes int64 `json:"max_rate_bytes"`
	Held         bool  `json:"held"`
	// TablesRestarted are the tables that were started again without keeping any rows;
	// TablesRepaired those whose changed rows, identified by KeysRepaired keys, were fetched again
	// because the snapshot of their first chunks was lost.
	TablesRestarted int   `json:"tables_restarted"`
	TablesRepaired  int   `json:"tables_repaired"`
	KeysRepaired    int64 `json:"keys_repaired"`
}

// Replication is how far the other side follows the active one. A figure that is not known now is
// -1, or empty: that of a side which does not answer is not shown as it was.
type Replication struct {
	// State is none before the stream starts, connecting, running, source_away or target_away while
	// it has lost a side, stopped where it has ended with an error, and ended after a switch.
	State            string `json:"state"`
	LagBytes         int64  `json:"lag_bytes"`   // WAL between what was written and what is applied
	LagMS            int64  `json:"lag_ms"`      // age of the oldest change that is not applied
	AppliedLSN       string `json:"applied_lsn"` // such as 0/16B3748; empty before the stream starts
	RetainedWALBytes int64  `json:"retained_wal_bytes"`
	// WALBudgetBytes is how much may be retained before the slot is dropped; 0 for no bound.
	// SafeWALBytes is how much may be written until the source gives the slot up by itself, -1 for
	// no limit. WALStatus is that of pg_replication_slots, empty before PostgreSQL 13.
	WALBudgetBytes int64  `json:"wal_budget_bytes"`
	WALStatus      string `json:"wal_status"`
	SafeWALBytes   int64  `json:"safe_wal_bytes"`
	// XminAge is how many transactions ago the oldest one began whose dead rows the
	// source keeps for us.
	XminAge int64 `json:"xmin_age"`
}

// Proxy counts the client sessions of now.
type Proxy struct {
	Sessions      int `json:"sessions"`
	InTransaction int `json:"in_transaction"`
	Parked        int `json:"parked"` // held at a closed gate
}

// Blocker is a reason why a cutover would be refused, or a warning.
type Blocker = machine.Obstacle

// Fallback is the state of the way back.
type Fallback struct {
	State string `json:"state"` // one of the states below
	LagMS int64  `json:"lag_ms"`
	// LagBytes is how much of the target's log the source does not have yet, and Detail why a
	// fallback would not be lossless now.
	LagBytes int64  `json:"lag_bytes,omitempty"`
	Detail   string `json:"detail,omitempty"`
}

// The states of the way back. There is none before the first switch, and none while the source is
// active.
const (
	FallbackNone       = "none"
	FallbackLossless   = "lossless"
	FallbackCatchingUp = "catching_up"
	FallbackStopped    = "stopped" // an error keeps it from catching up
	FallbackGone       = "gone"
)

// Verify is the row-by-row comparison of both sides.
type Verify struct {
	State       string `json:"state"` // idle, running, interrupted, equal, different, not_provable
	TablesDone  int    `json:"tables_done"`
	TablesTotal int    `json:"tables_total"`
	Differences int64  `json:"differences"`
	// LeftMS is how long a running comparison will still take at its pace; 0 where that is not known.
	LeftMS int64 `json:"left_ms,omitempty"`
	// Ended is when the last comparison that was completed ended.
	Ended *time.Time `json:"ended,omitempty"`
	// Waits says why a running comparison does not continue, and why an interrupted one ended.
	Waits string `json:"waits,omitempty"`
	// Tables are those that are known to differ or that cannot be compared.
	Tables []VerifyTable `json:"tables,omitempty"`
}

// VerifyTable is a table that is not proved equal.
type VerifyTable struct {
	Table   string   `json:"table"`
	Verdict string   `json:"verdict"` // different or not_provable
	Reason  string   `json:"reason"`
	Keys    []string `json:"keys,omitempty"` // some of those that differ
}

// The values of a Replication that are not known.
const Unknown = -1

// PhaseStopped is the phase of a migration that has ended with an error.
const PhaseStopped = "stopped"

// Operation names what the daemon has been told to do and has not ended.
type Operation struct {
	Name    string    `json:"name"` // cutover or finish
	Started time.Time `json:"started"`
}

// MarshalJSON writes empty lists as [].
func (s Status) MarshalJSON() ([]byte, error) {
	type plain Status
	s.Blockers, s.Warnings = lists.NotNil(s.Blockers), lists.NotNil(s.Warnings)
	return json.Marshal(plain(s))
}

// Health is the answer of a daemon that can tell its status.
type Health struct {
	Phase   string `json:"phase"`
	Version string `json:"version,omitempty"`
}

// Session is one client session of the proxy.
type Session struct {
	ID              uint64    `json:"id"`
	Client          string    `json:"client"` // address
	User            string    `json:"user"`
	Database        string    `json:"database"`
	ApplicationName string    `json:"application_name"`
	Started         time.Time `json:"started"`
	// State is idle, active, in_transaction, parked, waiting (parked, with a request held),
	// reviving or replication.
	State     string    `json:"state"`
	Since     time.Time `json:"since"`                // of the state, to the second
	Side      string    `json:"side"`                 // source or target
	ServerPID int32     `json:"server_pid,omitempty"` // of pg_backend_pid()
	// Verdict says whether it would move in a cutover: green, amber (with a loss), hold (not now),
	// red (never), unknown (it was never at rest when it was inspected).
	Verdict string          `json:"verdict"`
	Reasons []SessionReason `json:"reasons,omitempty"` // for any other than green and unknown
	// Checked is when the verdict was found; Stale says that the client has sent something since.
	Checked *time.Time `json:"checked,omitempty"`
	Stale   bool       `json:"stale,omitempty"`
}

// SessionReason says why a session would not move, or not whole. It holds names,
// no values and no statements.
type SessionReason struct {
	Verdict string `json:"verdict"`
	Code    string `json:"code"` // stable, such as temp_objects
	Detail  string `json:"detail"`
}

// Limits are the bounds that the operator may change while the daemon runs. They
// hold until it ends; a start takes those of its flags.
type Limits struct {
	// MaxRateBytes bounds the copy, in bytes a second; 0 for no bound.
	MaxRateBytes int64 `json:"max_rate_bytes"`
	// WALBudgetBytes is how much WAL the source may retain for the migration before
	// its slot is dropped; 0 for no bound.
	WALBudgetBytes int64 `json:"wal_budget_bytes"`
}

// LimitsChange says which limits to set, and to what. One that is null stays.
type LimitsChange struct {
	MaxRateBytes *int64 `json:"max_rate_bytes,omitempty"`
	// WALBudgetBytes may be -1 for one that the daemon chooses by the source's size.
	WALBudgetBytes *int64 `json:"wal_budget_bytes,omitempty"`
}

// Validate returns an *Error of code usage for bounds that mean nothing.
func (c LimitsChange) Validate() error {
	switch {
	case c.MaxRateBytes != nil && *c.MaxRateBytes < 0:
		return &Error{Code: CodeUsage, Message: "the rate is negative", Remedy: "give --max-rate bytes a second such as 20M, or none"}
	case c.WALBudgetBytes != nil && *c.WALBudgetBytes < -1:
		return &Error{Code: CodeUsage, Message: "the budget is negative", Remedy: "give --wal-budget a size such as 50G, auto, or none"}
	}
	return nil
}
