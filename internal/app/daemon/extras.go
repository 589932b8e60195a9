package daemon

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

// extrasPatience bounds how long a database may be away while extras are copied, as
// the copy of a table's chunk has it.
const extrasPatience = 15 * time.Minute

// extras copies what no relation of the plan holds: the rows of the user's in
// tables of extensions, and large objects where these are wanted. Both are of the
// copy's snapshot while that is held. No stream carries either: the one is copied again where
// it changes, and what changes of the other stops a cutover.
func (m *migration) extras(ctx context.Context, held *snapshot.Holder) error {
	if m.opts.SchemaOnly {
		return nil
	}
	return retry.Do(ctx, retry.Policy{MaxElapsed: extrasPatience, OnRetry: obs.Retrying(m.log, "extensions' rows and large objects are copied")}, func(ctx context.Context) error {
		err := m.extensionRows(ctx, held)
		if err == nil && !m.opts.Filter.Includes() {
			err = m.jobsOnce(ctx)
		}
		if err == nil && m.opts.LargeObjects {
			err = m.largeObjects(ctx, held)
		}
		if errors.Is(err, snapshot.ErrLost) && m.id.Target.Mode == runs.ModeRun {
			held = nil // no stream follows these, so that a later moment serves as well
		}
		if err != nil && !watch.Passing(err) {
			return retry.Permanent(err)
		}
		return err
	})
}

func (m *migration) extensionRows(ctx context.Context, held *snapshot.Holder) error {
	return m.markedExtensionRows(ctx, held, func() error { return m.copyExtensionRows(ctx, held) })
}

func (m *migration) copyExtensionRows(ctx context.Context, held *snapshot.Holder) error {
	done, err := extension.Copy(ctx, extension.Config{Source: m.connectSource, Target: m.connectTarget, Snapshot: held, Roles: m.roles, LockTimeout: m.lockTimeout, Takes: m.takesRows()})
	for _, c := range done {
		if !c.Table.Sequence {
			m.log.Info().Str("extension", c.Table.Extension).Str("table", c.Table.Name.Display()).Int64("rows", c.Rows).Msg("copied rows of an extension's table")
		}
	}
	return err
}

func (m *migration) largeObjects(ctx context.Context, held *snapshot.Holder) error {
	if err := m.markLargeObjects(ctx, held); err != nil {
		return err
	}
	r, err := largeobject.Copy(ctx, largeobject.Config{
		Source: m.connectSource, Target: m.connectTarget, Snapshot: held, LockTimeout: m.lockTimeout, Roles: m.roles,
		Owners: !m.opts.NoOwner, Privileges: !m.opts.NoACL, Comments: !m.opts.NoComments,
	})
	if err != nil {
		return err
	}
	if r.OwnersLeft+r.GrantsLeft > 0 {
		m.log.Warn().Int64("owners", r.OwnersLeft).Int64("grants", r.GrantsLeft).
			Msg("left out of large objects: owners that the target's role may not give, and grants to roles that the target does not have")
	}
	if r.Objects > 0 {
		m.log.Info().Int64("objects", r.Objects).Int64("bytes", r.Bytes).Msg("copied large objects; they are not followed")
	}
	return nil
}
