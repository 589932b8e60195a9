package arch

import (
	"fmt"
	"slices"
	"strings"
)

// appRoom is a package of internal/app.
type appPackage struct {
	name    string
	domains bool // puts domains together, so that it may import all of them
	faces   bool // the command line and the demo may import it
}

// appRooms are the rooms of internal/app below the command line, from the bottom up: each imports those that stand
// before it, and none that stands after it.
var appPackages = []appPackage{
	{name: "control", faces: true},
	{name: "exit", faces: true},
	{name: "dbconn"},
	{name: "runs", domains: true},
	{name: "watch", domains: true},
	{name: "ports", domains: true},
	{name: "logins", domains: true},
	{name: "options", domains: true, faces: true},
	{name: "migration", domains: true},
	{name: "definitions", domains: true},
	{name: "matviews", domains: true},
	{name: "apptest", domains: true},
	{name: "check", domains: true, faces: true},
	{name: "oneshot", domains: true, faces: true},
	{name: "undo", domains: true, faces: true},
	{name: "daemon", domains: true, faces: true},
}

// appRoomOf returns the place of a directory in appRooms, or -1.
func appPackageOf(dir string) int {
	return slices.IndexFunc(appPackages, func(r appPackage) bool { return within(dir, app+"/"+r.name) })
}

// putsTogether reports whether a directory may import every domain.
func putsTogether(dir string) bool {
	i := appPackageOf(dir)
	return i >= 0 && appPackages[i].domains
}

// puttingTogether names the rooms that may import every domain.
func puttingTogether() string {
	var names []string
	for _, r := range appPackages {
		if r.domains {
			names = append(names, app+"/"+r.name)
		}
	}
	return strings.Join(names, ", ")
}

// refusedOfApp says why a room of internal/app, or one of its faces, may not import another room of it, or "".
func refusedOfApp(dir, target string, face bool) string {
	from, to := appPackageOf(dir), appPackageOf(target)
	switch {
	case to < 0:
		return fmt.Sprintf("%s has no place among the rooms of %s: give it one in appRooms", target, app)
	case face && !appPackages[to].faces:
		return dir + " reaches it through " + daemon
	case face:
		return ""
	case from < 0:
		return fmt.Sprintf("%s has no place among the rooms of %s: give it one in appRooms", dir, app)
	case to > from:
		return fmt.Sprintf("%s stands above %s in %s, where imports go down only", appPackages[to].name, appPackages[from].name, app)
	}
	return ""
}
