package server

import (
	"context"
	"fmt"
	"strings"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
)

// OldestSource is the first major version that the tests move from. Versions
// before 13 name the functions for snapshots txid_ instead of pg_current_.
const OldestSource = 12

// Versions compares the versions of both servers and of pg_dump.
func Versions(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	source, target, err := inquiry.Both(ctx, p, inquiry.Version)
	if err != nil {
		return nil, err
	}
	dump, err := p.Options.PgDumpMajor(ctx)
	if err != nil {
		// The context's end says nothing about pg_dump.
		if ctx.Err() != nil {
			return nil, fmt.Errorf("ask pg_dump for its version: %w", err)
		}
		return append(versionFindings(source/10000, target/10000, 0), answer.Finding{
			Code: "pg_dump_missing", Severity: answer.Blocker, Object: "pg_dump",
			Detail: "pg_dump cannot be run: " + answer.OneLine(err.Error()),
			Remedy: fmt.Sprintf("install PostgreSQL's client programs of version %d or newer", source/10000),
		}), nil
	}
	return versionFindings(source/10000, target/10000, dump), nil
}

// versionFindings compares major versions; dump is 0 where it is not known.
func versionFindings(source, target, dump int) []answer.Finding {
	var found []answer.Finding
	if source < OldestSource {
		found = append(found, answer.Finding{
			Code: "source_too_old", Severity: answer.Blocker, Object: "source",
			Detail: fmt.Sprintf("the source runs PostgreSQL %d; at least %d is needed", source, OldestSource),
			Remedy: fmt.Sprintf("upgrade the source to version %d or newer first", OldestSource),
		})
	}
	if target < source {
		found = append(found, answer.Finding{
			Code: "target_older", Severity: answer.Blocker, Object: "target",
			Detail: fmt.Sprintf("the target runs PostgreSQL %d, which is older than the source's %d", target, source),
			Remedy: fmt.Sprintf("make a target of version %d or newer", source),
		})
	}
	if dump != 0 && dump < source {
		found = append(found, answer.Finding{
			Code: "pg_dump_older", Severity: answer.Blocker, Object: "pg_dump",
			Detail: fmt.Sprintf("pg_dump %d refuses a server of version %d", dump, source),
			Remedy: fmt.Sprintf("install PostgreSQL's client programs of version %d or newer", source),
		})
	}
	if dump > target {
		found = append(found, answer.Finding{
			Code: "pg_dump_newer", Severity: answer.Info, Object: "pg_dump",
			Detail: fmt.Sprintf("pg_dump %d is newer than the target's version %d; settings that the target does not know are left out", dump, target),
		})
	}
	return found
}

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
			Code: "pooler_host", Severity: answer.Blocker, Object: side.host,
			Detail: fmt.Sprintf("the %s is named by its connection pooler, which keeps no session", side.name),
			Remedy: "use the direct host " + direct,
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
