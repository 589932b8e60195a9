package logins

import "time"

// Bounds of the rest of a statement that the target has refused.
const (
	refusalRest     = 30 * time.Second
	mostRefusalRest = 10 * time.Minute
)

// refusals are what the target has refused to do about roles: each rests twice as long after each
// try, or until the role of --target may do something else. They are not safe for concurrent use.
type refusals map[string]denial

type denial struct {
	may   string // what the role of --target might do then
	until time.Time
	rest  time.Duration
}

// rests reports whether what was refused is to be left alone now.
func (r refusals) rests(what, may string, now time.Time) bool {
	x, ok := r[what]
	return ok && x.may == may && now.Before(x.until)
}

// note keeps that the target refuses it.
func (r refusals) note(what, may string, now time.Time) {
	rest := refusalRest
	if x, ok := r[what]; ok && x.may == may {
		rest = min(2*x.rest, mostRefusalRest)
	}
	r[what] = denial{may, now.Add(rest), rest}
}
