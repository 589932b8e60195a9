package arch

import (
	"fmt"
	"slices"
	"strings"
)

// appRoom is a package of internal/app.
type appRoom struct {
	name    string
	domains bool // puts domains together, so that it may import all of them
	faces   bool // the command line and the demo may import it
}

// appRooms are the rooms of internal/app below the command line, from the bottom up: each imports those that stand
// before it, and none that stands after it.
var appRooms = []appRoom{
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
func appRoomOf(dir string) int {
	return slices.IndexFunc(appRooms, func(r appRoom) bool { return within(dir, app+"/"+r.name) })
}

// putsTogether reports whether a directory may import every domain.
func putsTogether(dir string) bool {
	i := appRoomOf(dir)
	return i >= 0 && appRooms[i].domains
}

// puttingTogether names the rooms that may import every domain.
func puttingTogether() string {
	var names []string
	for _, r := range appRooms {
		if r.domains {
			names = append(names, app+"/"+r.name)
		}
	}
	return strings.Join(names, ", ")
}

// refusedOfApp says why a room of internal/app, or one of its faces, may not import another room of it, or "".
func refusedOfApp(dir, target string, face bool) string {
	from, to := appRoomOf(dir), appRoomOf(target)
	switch {
	case to < 0:
		return fmt.Sprintf("%s has no place among the rooms of %s: give it one in appRooms", target, app)
	case face && !appRooms[to].faces:
		return dir + " reaches it through " + daemon
	case face:
		return ""
	case from < 0:
		return fmt.Sprintf("%s has no place among the rooms of %s: give it one in appRooms", dir, app)
	case to > from:
		return fmt.Sprintf("%s stands above %s in %s, where imports go down only", appRooms[to].name, appRooms[from].name, app)
	}
	return ""
}
