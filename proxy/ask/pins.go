package ask

import (
	"context"
	"maps"
	"slices"

	"crossfade/proxy/state"
	"crossfade/proxy/wire"
)

// ReadPins returns what every setting that changes results is in a session that has
// just begun and asked for nothing: all of Pinned, the custom settings that a role, a
// database or the server gives to its sessions, and the role that it becomes.
func ReadPins(ctx context.Context, l *state.Link, login string) ([]wire.Param, error) {
	catalog, err := l.ReadCatalog(ctx)
	if err != nil {
		return nil, err
	}
	now, err := l.Capture(ctx, state.CaptureSpec{Login: login, Names: catalog.Names})
	if err != nil {
		return nil, err
	}
	var pins []wire.Param
	if now.Role != "none" { // by ALTER ROLE … SET role: what DISCARD ALL goes back to
		pins = append(pins, wire.Param{Name: "role", Value: now.Role})
	}
	for _, name := range state.Pinned {
		if v, ok := now.Settings[name]; ok {
			pins = append(pins, wire.Param{Name: name, Value: v.Reset})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(now.Custom)) {
		if _, library := now.Settings[name]; !library && state.ASCII(now.Custom[name]) {
			pins = append(pins, wire.Param{Name: name, Value: now.Custom[name]})
		}
	}
	return pins, nil
}
