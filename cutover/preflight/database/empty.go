package database

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/lists"
)

// maxNamed bounds how many objects one finding lists: a target that was filled
// by mistake may hold thousands.
const maxNamed = 5

// TargetEmpty names what the target has already, as far as it is in the way.
func TargetEmpty(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	if p.Options.Scope.Clean || p.Options.Scope.DataOnly {
		return nil, nil // there may be objects; what is in the way is found when it is met
	}
	there, err := userObjects(ctx, p.Target, inquiry.Scope{})
	if err != nil {
		return nil, err
	}
	if !p.Options.Scope.Everything() { // a copy of a part is possible next to objects with other names
		if there, err = inTheWay(ctx, p, there); err != nil {
			return nil, err
		}
	}
	if p.Options.Resume {
		if there, err = notOurs(ctx, p, there); err != nil {
			return nil, err
		}
	}
	if len(there) == 0 {
		return nil, nil
	}
	f := answer.Finding{
		Code: "target_not_empty", Severity: answer.Blocker, Object: there[0],
		Detail: "the target's database already has " + named(there),
		Remedy: emptied(p),
	}
	here, err := userObjects(ctx, p.Source, inquiry.Scope{})
	if err != nil {
		return nil, err
	}
	if len(here) == 0 {
		f.Detail += ", and the source's has nothing"
		f.Remedy = "if --source and --target are exchanged, give the one as the other; else " + f.Remedy
	}
	return []answer.Finding{f}, nil
}

// emptied says what to do about a target that is not empty.
func emptied(p *inquiry.Pair) string {
	if p.Options.Mode == inquiry.Copy {
		return "use an empty database, or give --clean, which drops what is in the way"
	}
	return "use an empty database; if a migration that was finished has filled this one, point the applications at it"
}

// inTheWay leaves of the target's objects those that are to be copied as well.
func inTheWay(ctx context.Context, p *inquiry.Pair, there []string) ([]string, error) {
	taken, err := userObjects(ctx, p.Source, p.Options.Scope)
	if err != nil {
		return nil, err
	}
	return lists.Filter(there, func(name string) bool { return slices.Contains(taken, name) }), nil
}

// notOurs returns the objects of the target that the source does not have: the run that is
// continued cannot have made them.
func notOurs(ctx context.Context, p *inquiry.Pair, there []string) ([]string, error) {
	source, err := userObjects(ctx, p.Source, inquiry.Scope{})
	if err != nil {
		return nil, err
	}
	copied := lists.Set(source)
	return lists.Filter(there, func(name string) bool { return !copied[name] }), nil
}

func named(names []string) string {
	if len(names) <= maxNamed {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNamed], ", "), len(names)-maxNamed)
}
