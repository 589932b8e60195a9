package arch

import (
	"fmt"
	"slices"
	"strings"
)

// appPackage is a package of internal/app.
type appPackage struct {
	name    string
	domains bool // combines domains, so that it may import all of them
	faces   bool // the command line and the demo may import it
}

// appPackages are the packages of internal/app below the command line, from the bottom up: each may
// import those before it, and none after it.
var appPackages = []appPackage{
	{name: "exit", faces: true},
	{name: "control", domains: true, faces: true},
	{name: "dbconn"},
	{name: "runs", domains: true},
	{name: "watch", domains: true},
	{name: "ports", domains: true},
	{name: "logins", domains: true},
	{name: "options", domains: true, faces: true},
	{name: "migration", domains: true},
	{name: "lanes", domains: true},
	{name: "definitions", domains: true},
	{name: "matviews", domains: true},
	{name: "compare", domains: true, faces: true},
	{name: "apptest", domains: true},
	{name: "check", domains: true, faces: true},
	{name: "oneshot", domains: true, faces: true},
	{name: "undo", domains: true, faces: true},
	{name: "daemon", domains: true, faces: true},
}

// appPackageOf returns the index of a directory in appPackages, or -1.
func appPackageOf(dir string) int {
	return slices.IndexFunc(appPackages, func(r appPackage) bool { return within(dir, app+"/"+r.name) })
}

// putsTogether reports whether a directory may import every domain.
func putsTogether(dir string) bool {
	i := appPackageOf(dir)
	return i >= 0 && appPackages[i].domains
}

// puttingTogether names the packages that may import every domain.
func puttingTogether() string {
	var names []string
	for _, r := range appPackages {
		if r.domains {
			names = append(names, app+"/"+r.name)
		}
	}
	return strings.Join(names, ", ")
}

// refusedOfApp says why a package of internal/app, or one of its faces, may not import another, or "".
func refusedOfApp(dir, target string, face bool) string {
	from, to := appPackageOf(dir), appPackageOf(target)
	switch {
	case to < 0:
		return fmt.Sprintf("%s has no place among the packages of %s: give it one in appPackages", target, app)
	case face && !appPackages[to].faces:
		return dir + " reaches it through " + daemon
	case face:
		return ""
	case from < 0:
		return fmt.Sprintf("%s has no place among the packages of %s: give it one in appPackages", dir, app)
	case to > from:
		return fmt.Sprintf("%s stands above %s in %s, where imports go down only", appPackages[to].name, appPackages[from].name, app)
	}
	return ""
}
