package inquiry

// Logins say which roles log in, and as which role after the switch. Functions that are nil mean
// that there are none.
type Logins struct {
	// TargetRole is the role of --target. No other role should log in as it: it owns what the
	// migration keeps.
	TargetRole string
	// Mapped are roles of the source that log in as another one of the target, by the
	// operator's word; NoLogin for those that do not log in there.
	Mapped map[string]string
	// Accepted are the roles that may have other rights on the target, by the operator's word.
	Accepted []string
	// LetsIn tells whether the proxy lets a role in: it knows what to check its client with.
	LetsIn func(role string) bool
	// Enters tells whether it is known how a role of the source logs in to the target.
	Enters func(role string) bool
	// Full tells what the target said when it had no session for a role, "" where it had.
	Full func(role string) string
}

// NoLogin is the value in Mapped of a role that may not log in on the target.
const NoLogin = "-"
