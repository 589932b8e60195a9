package migration

import (
	"context"
	"errors"
	"time"

	"crossfade/internal/app/runs"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/obs"
	"crossfade/internal/base/retry"
	"crossfade/replicate/extras/extension"
	"crossfade/replicate/extras/largeobject"
	"crossfade/replicate/snapshot"
)

// Extras are what belongs to no stream: rows of extensions, large objects and jobs of pg_cron.
type Extras struct {
	task     *Task
	findings *Findings
	schema   *Schema
}

// extrasPatience bounds how long a database may be away while extras are copied, as
// the copy of a table's chunk has it.
const extrasPatience = 15 * time.Minute

// Extras copies what no relation of the plan holds: the rows of the user's in
// tables of extensions, and large objects where these are wanted. Both are of the
// copy's snapshot while that is held. No stream carries either: the one is copied again where
// it changes, and what changes of the other stops a cutover.
func (m *Extras) Extras(ctx context.Context, held *snapshot.Holder) error {
	if m.task.Options.SchemaOnly {
		return nil
	}
	return retry.Do(ctx, retry.Policy{MaxElapsed: extrasPatience, OnRetry: obs.Retrying(m.task.Log, "extensions' rows and large objects are copied")}, func(ctx context.Context) error {
		err := m.extensionRows(ctx, held)
		if err == nil && !m.task.Options.Filter.Includes() {
			err = m.jobsOnce(ctx)
		}
		if err == nil && m.task.Options.LargeObjects {
			err = m.largeObjects(ctx, held)
		}
		if errors.Is(err, snapshot.ErrLost) && m.task.Identity.Target.Mode == runs.ModeRun {
			held = nil // no stream follows these, so that a later moment serves as well
		}
		if err != nil && !watch.Passing(err) {
			return retry.Permanent(err)
		}
		return err
	})
}

func (m *Extras) extensionRows(ctx context.Context, held *snapshot.Holder) error {
	return m.markedExtensionRows(ctx, held, func() error { return m.copyExtensionRows(ctx, held) })
}

func (m *Extras) copyExtensionRows(ctx context.Context, held *snapshot.Holder) error {
	done, err := extension.Copy(ctx, extension.Config{Source: m.task.ConnectSource, Target: m.task.ConnectTarget, Snapshot: held, Roles: m.task.Roles, LockTimeout: m.task.lockTimeout, Takes: m.schema.takesRows()})
	for _, c := range done {
		if !c.Table.Sequence {
			m.task.Log.Info().Str("extension", c.Table.Extension).Str("table", c.Table.Name.Display()).Int64("rows", c.Rows).Msg("copied rows of an extension's table")
		}
	}
	return err
}

func (m *Extras) largeObjects(ctx context.Context, held *snapshot.Holder) error {
	if err := m.markLargeObjects(ctx, held); err != nil {
		return err
	}
	r, err := largeobject.Copy(ctx, largeobject.Config{
		Source: m.task.ConnectSource, Target: m.task.ConnectTarget, Snapshot: held, LockTimeout: m.task.lockTimeout, Roles: m.task.Roles,
		Owners: !m.task.Options.Schema.NoOwner, Privileges: !m.task.Options.Schema.NoACL, Comments: !m.task.Options.Schema.NoComments,
	})
	if err != nil {
		return err
	}
	if r.OwnersLeft+r.GrantsLeft > 0 {
		m.task.Log.Warn().Int64("owners", r.OwnersLeft).Int64("grants", r.GrantsLeft).
			Msg("left out of large objects: owners that the target's role may not give, and grants to roles that the target does not have")
	}
	if r.Objects > 0 {
		m.task.Log.Info().Int64("objects", r.Objects).Int64("bytes", r.Bytes).Msg("copied large objects; they are not followed")
	}
	return nil
}
