package database

import (
	"context"
	"fmt"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
)

// identity is a table and how the stream identifies its rows.
type identity struct {
	Schema, Table string
	Setting       string // pg_class.relreplident: d, n, f, i
	Primary       bool   // a primary key that is not deferrable
	Index         bool   // the index that the setting i names still serves
	Generated     bool   // the identity in use holds a generated column
	PlainPrimary  bool   // the primary key holds no generated column
	Candidate     string // a unique index that could serve, or ""
}

// identities reads every table whose changes are followed. Partitioned tables
// are left out: their partitions carry the identity.
const identities = `
	SELECT n.nspname::text, c.relname::text, c.relreplident::text,
		pk.indexrelid IS NOT NULL,
		ri.indexrelid IS NOT NULL,
		EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped AND a.attgenerated <> ''
			AND CASE c.relreplident WHEN 'f' THEN a.attnum > 0
				WHEN 'd' THEN a.attnum = ANY (pk.indkey::int2[])
				WHEN 'i' THEN a.attnum = ANY (ri.indkey::int2[]) ELSE false END),
		pk.indexrelid IS NOT NULL AND NOT EXISTS (SELECT FROM pg_attribute a
			WHERE a.attrelid = c.oid AND a.attgenerated <> '' AND a.attnum = ANY (pk.indkey::int2[])),
		coalesce((SELECT ic.relname::text FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid
			WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate AND i.indisvalid
				AND i.indpred IS NULL AND i.indexprs IS NULL
				AND NOT EXISTS (SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, pos)
					JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
					WHERE k.pos <= i.indnkeyatts AND (NOT a.attnotnull OR a.attgenerated <> ''))
			ORDER BY i.indnkeyatts, ic.relname LIMIT 1), '')
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	LEFT JOIN pg_index pk ON pk.indrelid = c.oid AND pk.indisprimary AND pk.indimmediate AND pk.indisvalid
	LEFT JOIN pg_index ri ON ri.indrelid = c.oid AND ri.indisreplident AND ri.indimmediate AND ri.indisvalid
	WHERE` + inquiry.UserSchema + `AND` + inquiry.NotOfExtension + `AND c.relkind = 'r' AND c.relpersistence = 'p'
	ORDER BY 1, 2`

// versionOfGeneratedIdentity is the first server version that refuses to
// update a published table whose identity holds a generated column.
const versionOfGeneratedIdentity = 180000

// ReplicaIdentity names tables whose rows would not be told apart in the stream, or only at a
// price.
func ReplicaIdentity(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	v, err := inquiry.Version(ctx, p.Source)
	if err != nil {
		return nil, err
	}
	tables, err := inquiry.List[identity](ctx, p.Source, "replica identities", identities)
	return lists.Pick(tables, func(t identity) (answer.Finding, bool) { return identityFinding(v, t) }), err
}

func identityFinding(version int, t identity) (answer.Finding, bool) {
	name := pg.Name{Schema: t.Schema, Name: t.Table}
	f := answer.Finding{Code: "replica_identity", Severity: answer.Blocker, Object: name.Display(), Remedy: t.remedy(name), SQL: t.remedy(name), On: answer.Source}
	missing := t.Setting == "n" || t.Setting == "d" && !t.Primary || t.Setting == "i" && !t.Index
	better := t.PlainPrimary || t.Candidate != ""
	switch {
	case missing && t.Setting == "d":
		f.Detail = "has no primary key that could serve as replica identity: once published, its UPDATEs and DELETEs would fail"
	case missing && t.Setting == "n":
		f.Detail = "has REPLICA IDENTITY NOTHING: once published, its UPDATEs and DELETEs would fail"
	case missing:
		f.Detail = "its replica identity names an index that is gone or not valid: once published, its UPDATEs and DELETEs would fail"
	case t.Generated && (version >= versionOfGeneratedIdentity || t.Setting != "f"):
		f.Code = "replica_identity_generated"
		f.Detail = "its replica identity holds a generated column: once published, its UPDATEs and DELETEs would fail"
		if version < versionOfGeneratedIdentity {
			f.Detail = "its replica identity holds a generated column, which logical decoding leaves out: its UPDATEs and DELETEs could not be followed"
		}
		if !better && version >= versionOfGeneratedIdentity {
			f.SQL, f.On = "", ""
			f.Remedy = fmt.Sprintf("give %s a primary key without generated columns, then ALTER TABLE %s REPLICA IDENTITY DEFAULT", name, name)
		}
	case t.Setting == "f" && better:
		f.Code, f.Severity = "replica_identity_full", answer.Warning
		f.Detail = "has REPLICA IDENTITY FULL although a key would serve: each change carries and compares the whole row"
	case t.Setting == "f":
		f.Code, f.Severity, f.Remedy, f.SQL, f.On = "replica_identity_full", answer.Info, "", "", ""
		f.Detail = "has REPLICA IDENTITY FULL: each change carries and compares the whole row, which is slow on a large table"
	default:
		return answer.Finding{}, false
	}
	return f, true
}

// remedy is the cheapest identity that the table can have.
func (t identity) remedy(name pg.Name) string {
	to := "FULL"
	switch {
	case t.PlainPrimary:
		to = "DEFAULT"
	case t.Candidate != "":
		to = "USING INDEX " + pg.QuoteIdent(t.Candidate)
	}
	return fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY %s", name, to)
}
