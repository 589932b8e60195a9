package compare

import (
	"fmt"
	"strings"
	"time"

	"crossfade/internal/app/control"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/replicate/verify"
)

// word is a verdict as the faces and the journal write it.
func word(v verify.Verdict) string { return strings.ReplaceAll(string(v), " ", "_") }

// foundOf is what the journal keeps of a table.
func foundOf(r verify.Result) journal.Found {
	f := journal.Found{Kind: journal.KindTable, Proof: journal.Proof{Table: r.Name, Verdict: word(r.Verdict), Reason: r.Reason, SourceRows: r.FromRows, TargetRows: r.ToRows,
		Keys: lists.Map(r.Keys, verify.Difference.String)}}
	if r.More {
		f.Reason += "; not every key that differs is named"
	}
	return f
}

// reportOf is the report of a round.
func reportOf(r journal.Round, found []journal.Found) control.VerifyReport {
	report := control.VerifyReport{Begun: r.Begun, Ended: r.Ended, Tables: r.Tables, Sequences: r.Sequences, Differences: differences(found)}
	report.Judge()
	return report
}

// differences lists what is not equal.
func differences(found []journal.Found) []control.VerifyDifference {
	var out []control.VerifyDifference
	for _, f := range found {
		if f.Verdict == control.Equal {
			continue
		}
		name := f.Table.Display()
		if f.Kind == journal.KindDefinition {
			name = f.Table.Schema + " " + f.Table.Name
		}
		out = append(out, control.VerifyDifference{Kind: f.Kind, Name: name, Verdict: f.Verdict, Reason: f.Reason, Keys: f.Keys})
	}
	return out
}

// Last returns the report of the last round that was completed, nil for none.
func (j *Job) Last() *control.VerifyReport {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.ended
}

// Status tells how far the comparison is, and what the last one has found.
func (j *Job) Status() control.Verify {
	j.mu.Lock()
	defer j.mu.Unlock()
	v := control.Verify{State: "idle"}
	if j.last == nil && j.now == nil {
		return v
	}
	if j.last != nil {
		for _, f := range j.found {
			if f.Kind == journal.KindTable {
				v.TablesDone++
			}
			if f.Verdict == control.Different {
				v.Differences++
			}
			if f.Kind == journal.KindTable && f.Verdict != control.Equal {
				v.Tables = append(v.Tables, control.VerifyTable{Table: f.Table.Display(), Verdict: f.Verdict, Reason: f.Reason, Keys: f.Keys})
			}
		}
		v.State, v.TablesTotal = j.last.Verdict, j.last.Tables
		if j.last.Ended.IsZero() {
			v.State, v.Waits = control.VerifyInterrupted, j.halted
		}
	}
	if j.ended != nil {
		v.Ended = &j.ended.Ended
	}
	if r := j.now; r != nil {
		v.State, v.Waits, v.TablesTotal = "running", r.waits, r.total
		if j.last != nil && !j.last.Ended.IsZero() { // it has not begun
			v.TablesDone, v.Differences, v.Tables = 0, 0, nil
		}
		v.LeftMS = r.left().Milliseconds()
	}
	return v
}

// left is how long the reading will still take at its pace, 0 where that is not known. The Job's mu
// is held.
func (r *run) left() time.Duration {
	passed := time.Since(r.begun)
	if r.round == nil || passed < paceAfter {
		return 0
	}
	done, whole := r.round.Progress()
	if done == 0 {
		return 0
	}
	return max(time.Duration(float64(passed)*float64(whole-done)/float64(done)), 0)
}

// NotVerified says why the sides do not count as compared and equal within maxAge, nil if they do.
func (j *Job) NotVerified(maxAge time.Duration) *control.Blocker {
	b := &control.Blocker{Code: "not_verified", Remedy: "crossfade verify compares both sides, while the applications go on"}
	j.mu.Lock()
	known := j.known
	j.mu.Unlock()
	r := j.Last()
	switch {
	case !known:
		b.Detail, b.Remedy = "the result of the last comparison of both sides has not been read yet", "wait: it takes a moment"
	case r == nil:
		b.Detail = "the two sides have not been compared yet"
	case r.Outcome != control.Equal:
		b.Detail = "the last comparison of both sides has not found them equal: " + what(r.Differences)
		b.Remedy = "look at these on both sides, put right what differs, then run crossfade verify"
	case maxAge > 0 && time.Since(r.Ended) > maxAge:
		b.Detail = fmt.Sprintf("the last comparison of both sides ended %v ago, and --verify-max-age is %v", time.Since(r.Ended).Round(time.Second), maxAge)
	default:
		return nil
	}
	return b
}

// what names some of the things that are not equal.
func what(all []control.VerifyDifference) string {
	const most = 3
	words := lists.Map(all[:min(len(all), most)], func(d control.VerifyDifference) string { return d.Kind + " " + d.Name + ": " + d.Reason })
	if more := len(all) - len(words); more > 0 {
		words = append(words, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(words, "; ")
}
