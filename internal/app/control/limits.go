package control

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
