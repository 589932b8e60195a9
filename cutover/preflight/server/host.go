package server

import (
	"context"
	"fmt"
	"strings"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
)

// poolerSuffix ends the first label of the host name of Neon's connection pooler. A pooler in
// transaction mode keeps no session: no replication, no snapshot, no session settings.
const poolerSuffix = "-pooler"

// Hosts refuses the name of a connection pooler.
func Hosts(_ context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	var found []answer.Finding
	for _, side := range []struct{ name, host string }{{"source", p.Options.SourceHost}, {"target", p.Options.TargetHost}} {
		direct, pooled := directHost(side.host)
		if !pooled {
			continue
		}
		found = append(found, answer.Finding{
			Code:     "pooler_host",
			Severity: answer.Blocker,
			Object:   side.host,
			Detail:   fmt.Sprintf("the %s is named by its connection pooler, which keeps no session", side.name),
			Remedy:   "use the direct host " + direct,
		})
	}
	return found, nil
}

// directHost says whether host names a pooler, and for which host.
func directHost(host string) (direct string, pooled bool) {
	label, rest, dotted := strings.Cut(host, ".")
	if !dotted || !strings.HasSuffix(strings.ToLower(label), poolerSuffix) {
		return host, false
	}
	return label[:len(label)-len(poolerSuffix)] + "." + rest, true
}
