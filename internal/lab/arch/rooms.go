package arch

import (
	"fmt"
	"slices"
	"strings"
)

// Below says which packages of its own domain a package may import, where the domain is divided into
// several: imports among these go one way. catalog may be imported by all.
var Below = map[string][]string{
	"proxy":            {"proxy/auth", "proxy/ending", "proxy/login", "proxy/move", "proxy/route", "proxy/session", "proxy/side", "proxy/tlsconf"},
	"proxy/ask":        {"proxy/state", "proxy/typemap", "proxy/wire"},
	"proxy/auth":       {"proxy/auth/scram", "proxy/wire"},
	"proxy/auth/scram": nil,
	"proxy/backend":    {"proxy/auth", "proxy/auth/scram", "proxy/poll", "proxy/tlsconf", "proxy/wire"},
	"proxy/ending":     {"proxy/side", "proxy/wire"},
	"proxy/login":      {"proxy/auth", "proxy/auth/scram", "proxy/backend", "proxy/ending", "proxy/poll", "proxy/route", "proxy/session", "proxy/side", "proxy/state", "proxy/tlsconf", "proxy/wire"},
	"proxy/mirror":     {"proxy/backend", "proxy/side", "proxy/state", "proxy/typemap", "proxy/wire"},
	"proxy/move":       {"proxy/ask", "proxy/backend", "proxy/ending", "proxy/route", "proxy/session", "proxy/side", "proxy/state", "proxy/typemap"},
	"proxy/poll":       nil,
	"proxy/rewrite":    {"proxy/state", "proxy/typemap", "proxy/wire"},
	"proxy/route":      nil,
	"proxy/session":    {"proxy/ask", "proxy/auth", "proxy/backend", "proxy/ending", "proxy/mirror", "proxy/poll", "proxy/rewrite", "proxy/side", "proxy/state", "proxy/typemap", "proxy/wire"},
	"proxy/side":       {"proxy/ask", "proxy/auth", "proxy/auth/scram", "proxy/backend", "proxy/route", "proxy/state", "proxy/typemap", "proxy/wire"},
	"proxy/state":      {"proxy/typemap", "proxy/wire"},
	"proxy/tlsconf":    nil,
	"proxy/typemap":    nil,
	"proxy/wire":       nil,

	"proxy/wire/wiretest": {"proxy/wire"},

	"replicate/progress":           nil,
	"replicate/slot":               {"replicate/snapshot"},
	"replicate/snapshot":           nil,
	"replicate/stream":             nil,
	"replicate/extras/extension":   {"replicate/snapshot"},
	"replicate/extras/largeobject": {"replicate/snapshot"},
	"replicate/extras/sequence":    nil,
	"replicate/apply":              {"replicate/progress", "replicate/snapshot", "replicate/stream"},
	"replicate/verify":             {"replicate/apply", "replicate/slot", "replicate/snapshot"},
	"replicate/copy/relay":         nil,
	"replicate/copy":               {"replicate/copy/relay", "replicate/snapshot", "replicate/stream"},

	"cutover":                         {"cutover/machine"},
	"cutover/machine":                 nil,
	"cutover/machine/machinetest":     {"cutover/machine"},
	"cutover/preflight":               {"cutover/preflight/answer", "cutover/preflight/database", "cutover/preflight/expression", "cutover/preflight/extension", "cutover/preflight/inquiry", "cutover/preflight/loginrole", "cutover/preflight/privilege", "cutover/preflight/server"},
	"cutover/preflight/answer":        nil,
	"cutover/preflight/database":      {"cutover/preflight/answer", "cutover/preflight/inquiry"},
	"cutover/preflight/expression":    {"cutover/preflight/answer", "cutover/preflight/inquiry"},
	"cutover/preflight/extension":     {"cutover/preflight/answer", "cutover/preflight/inquiry"},
	"cutover/preflight/loginrole":     {"cutover/preflight/answer", "cutover/preflight/inquiry"},
	"cutover/preflight/privilege":     {"cutover/preflight/answer", "cutover/preflight/inquiry"},
	"cutover/preflight/server":        {"cutover/preflight/answer", "cutover/preflight/inquiry"},
	"cutover/preflight/inquiry":       nil,
	"cutover/preflight/preflighttest": {"cutover/preflight/answer", "cutover/preflight/inquiry"},

	"schema/catalog":     nil,
	"schema/archive":     nil,
	"schema/finding":     nil,
	"schema/roles":       {"schema/finding"},
	"schema/plan":        {"schema/archive", "schema/finding", "schema/roles"},
	"schema/fingerprint": {"schema/archive"},
	"schema/changes":     {"schema/archive", "schema/finding", "schema/roles", "schema/plan"},
	"schema/passive":     {"schema/archive", "schema/plan"},
	"schema/restore":     {"schema/archive", "schema/finding", "schema/roles", "schema/plan"},
}

// refusedWithinDomain says why a package of a divided domain may not import another of it, or "".
func refusedWithinDomain(dir, target string) string {
	below, known := Below[dir]
	if slices.Contains(below, target) || known && target == Catalog {
		return ""
	}
	if !known {
		for inner := range Below {
			if domainOf(inner) == domainOf(dir) {
				return dir + " has no place among the packages of its domain yet: give it one in Below"
			}
		}
		return ""
	}
	if len(below) == 0 {
		return dir + " stands lowest in its domain"
	}
	return fmt.Sprintf("of its domain %s imports only %s", dir, strings.Join(below, ", "))
}
