package server

import (
	"context"
	"fmt"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
)

// OldestSource is the first major version that the tests move from. Versions
// before 13 name the functions for snapshots txid_ instead of pg_current_.
const OldestSource = 12

// Versions compares the versions of both servers and of pg_dump.
func Versions(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	source, err := inquiry.Version(ctx, p.Source)
	if err != nil {
		return nil, err
	}
	target, err := inquiry.Version(ctx, p.Target)
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
			Code:     "pg_dump_missing",
			Severity: answer.Blocker,
			Object:   "pg_dump",
			Detail:   "pg_dump cannot be run: " + answer.OneLine(err.Error()),
			Remedy:   fmt.Sprintf("install PostgreSQL's client programs of version %d or newer", source/10000),
		}), nil
	}
	return versionFindings(source/10000, target/10000, dump), nil
}

// versionFindings compares major versions; dump is 0 where it is not known.
func versionFindings(source, target, dump int) []answer.Finding {
	var found []answer.Finding
	if source < OldestSource {
		found = append(found, answer.Finding{
			Code:     "source_too_old",
			Severity: answer.Blocker,
			Object:   "source",
			Detail:   fmt.Sprintf("the source runs PostgreSQL %d; at least %d is needed", source, OldestSource),
			Remedy:   fmt.Sprintf("upgrade the source to version %d or newer first", OldestSource),
		})
	}
	if target < source {
		found = append(found, answer.Finding{
			Code:     "target_older",
			Severity: answer.Blocker,
			Object:   "target",
			Detail:   fmt.Sprintf("the target runs PostgreSQL %d, which is older than the source's %d", target, source),
			Remedy:   fmt.Sprintf("make a target of version %d or newer", source),
		})
	}
	if dump != 0 && dump < source {
		found = append(found, answer.Finding{
			Code:     "pg_dump_older",
			Severity: answer.Blocker,
			Object:   "pg_dump",
			Detail:   fmt.Sprintf("pg_dump %d refuses a server of version %d", dump, source),
			Remedy:   fmt.Sprintf("install PostgreSQL's client programs of version %d or newer", source),
		})
	}
	if dump > target {
		found = append(found, answer.Finding{
			Code:     "pg_dump_newer",
			Severity: answer.Info,
			Object:   "pg_dump",
			Detail:   fmt.Sprintf("pg_dump %d is newer than the target's version %d; settings that the target does not know are left out", dump, target),
		})
	}
	return found
}
