package journal

// Names of what is ours on either side. Nothing of these is ever copied,
// published, dumped or compared.
const (
	Schema       = "crossfade"
	Publication  = "crossfade"
	SlotPrefix   = "crossfade_"
	FenceTrigger = "zz_crossfade_fence"
	MarkerPrefix = "crossfade.marker"
)

// fenceHead begins the function after the fence triggers of either side. SECURITY DEFINER lets it
// read the key for roles that have no right on our schema.
const fenceHead = `CREATE OR REPLACE FUNCTION crossfade.fence() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fence$
BEGIN
`

// OpenFence opens a fence: its triggers, in whatever state they are, do nothing any more. It locks
// no table, so that no lock can delay it, and like every change of the catalog it applies to
// sessions with an old snapshot too.
const OpenFence = fenceHead + `	RETURN NULL; -- open
END
$fence$;
`

// ShutFence lets only sessions write whose start-up options carry the run's key;
// it bites where the triggers are enabled. What is kept of the key is a digest, since the
// source's row may be read by everybody.
const ShutFence = fenceHead + `	IF EXISTS (SELECT FROM crossfade.run r WHERE r.key_digest = ` + keyDigest + `pg_catalog.current_setting('crossfade.key', true), 'UTF8'))) THEN
		RETURN NULL;
	END IF;
	RAISE EXCEPTION USING
		ERRCODE = '25006',
		MESSAGE = pg_catalog.format('table %I.%I is fenced by Crossfade: this side of a migration takes no writes', TG_TABLE_SCHEMA, TG_TABLE_NAME),
		HINT = 'Connect through the Crossfade proxy, which leads to the active database. "crossfade status" says which one that is.';
END
$fence$;
`

// keyDigest is the digest of a text, whose two parentheses are still to be closed.
const keyDigest = `pg_catalog.sha256(pg_catalog.convert_to(`

// ClosedFence refuses every write. It is what remains on a source whose migration has been
// finished, and needs nothing but its schema.
const ClosedFence = fenceHead + `	RAISE EXCEPTION USING
		ERRCODE = '25006',
		MESSAGE = pg_catalog.format('table %I.%I takes no writes: this database was moved by Crossfade', TG_TABLE_SCHEMA, TG_TABLE_NAME),
		HINT = 'Write to the database that it was moved to. "crossfade clean --force" opens this one.';
END
$fence$;
`

// fenceRights keeps others from making triggers of the function.
const fenceRights = `
REVOKE ALL ON FUNCTION crossfade.fence() FROM PUBLIC;
COMMENT ON FUNCTION crossfade.fence() IS 'Called by the triggers ` + FenceTrigger + `, which are disabled and do nothing until Crossfade changes sides. While it is shut, it refuses writes that come past the Crossfade proxy.';
`

// sourceRights have the tables on the source read by everybody, and written by their
// owner alone: a pg_dump of the database by a role that is not ours locks and reads them
// too, and would fail. So nothing that is secret may be in them.
const sourceRights = `
GRANT USAGE ON SCHEMA crossfade TO PUBLIC;
GRANT SELECT ON crossfade.run, crossfade.backend, crossfade.marker, crossfade.job, crossfade.decision, crossfade.progress, crossfade.reaction TO PUBLIC;
COMMENT ON TABLE crossfade.run IS 'Crossfade: the migration of this database, and which step its cutover is at. One row.';
COMMENT ON TABLE crossfade.backend IS 'Crossfade: the server processes that its proxy has opened here for applications.';
COMMENT ON TABLE crossfade.marker IS 'Crossfade: rows whose arrival on the target shows that the stream of changes is drained.';
COMMENT ON TABLE crossfade.job IS 'Crossfade: jobs of pg_cron that rest since the cutover.';
COMMENT ON TABLE crossfade.decision IS 'Crossfade: which attempts to fall back to this database were decided.';
COMMENT ON TABLE crossfade.progress IS 'Crossfade: how far this database has what was written to the other one since the switch.';
COMMENT ON TABLE crossfade.reaction IS 'Crossfade: triggers, rules and keys that do not act while this database is not the active one, and what restores them.';
`

// ownRights reserve the schema crossfade and what is in it for its owner, whatever the default
// privileges of the database grant: it contains verifiers and passwords.
const ownRights = `
DO $rights$
DECLARE
	given record;
BEGIN
	FOR given IN
		SELECT DISTINCT 'TABLE' AS kind, c.oid::pg_catalog.regclass::pg_catalog.text AS name,
			CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END AS grantee
		FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a
		WHERE c.relnamespace = 'crossfade'::pg_catalog.regnamespace AND c.relkind = 'r' AND a.grantee <> c.relowner
		UNION ALL
		SELECT DISTINCT 'SCHEMA', 'crossfade', CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END
		FROM pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) a
		WHERE n.nspname = 'crossfade' AND a.grantee <> n.nspowner
	LOOP
		EXECUTE pg_catalog.concat('REVOKE ALL ON ', given.kind, ' ', given.name, ' FROM ', given.grantee);
	END LOOP;
END
$rights$;
`

// schemaComment says whose the schema is, and explains what has no comment of its own: a slot,
// and a lock that pg_locks shows as two numbers, the halves of leadKey.
const schemaComment = `COMMENT ON SCHEMA crossfade IS 'A migration by Crossfade: see its table run. "crossfade finish" ends it and "crossfade clean" removes it, with the publication crossfade, ` +
	`the slot crossfade_… and the triggers ` + FenceTrigger + `. Its process holds the advisory lock that pg_locks shows as classid 120, objid 1717658725.';
`

// epochColumns are the columns of crossfade.run that both sides have: the newest epoch that has
// closed this side, or that a decision has opened it with, and how far it is. passive is the epoch
// since whose decision nothing on this side reacts to what the stream writes.
const epochColumns = `
	direction text NOT NULL DEFAULT 'forward',
	epoch bigint NOT NULL DEFAULT 0,
	step text NOT NULL DEFAULT 'copying',
	coordinator text NOT NULL DEFAULT '',
	nonce text NOT NULL DEFAULT '',
	fence text NOT NULL DEFAULT '',
	passive bigint NOT NULL DEFAULT 0,`

// sideTables are the tables that both sides have: either may be closed, opened and written by the
// stream.
const sideTables = `CREATE TABLE crossfade.backend (
	pid integer PRIMARY KEY,
	backend_start timestamptz NOT NULL,
	incarnation text NOT NULL
);
CREATE TABLE crossfade.progress (
	lane integer PRIMARY KEY,
	owner bigint NOT NULL,
	end_lsn pg_lsn NOT NULL,
	commit_ts timestamptz,
	open boolean NOT NULL DEFAULT true,
	since text NOT NULL DEFAULT '',
	since_lsn pg_lsn NOT NULL DEFAULT '0/0'
) WITH (fillfactor = 20);
CREATE TABLE crossfade.decision (
	epoch bigint PRIMARY KEY,
	decision text NOT NULL CHECK (decision IN ('commit', 'abort')),
	nonce text NOT NULL DEFAULT '',
	lsn pg_lsn NOT NULL DEFAULT pg_catalog.pg_current_wal_insert_lsn(),
	seen text NOT NULL DEFAULT (pg_catalog.txid_current_snapshot()::pg_catalog.text),
	decided_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE TABLE crossfade.reaction (
	id integer PRIMARY KEY,
	part text NOT NULL CHECK (part IN ('decide', 'after')),
	statement text NOT NULL
);
`

// SourceTables are the tables of ours on the source. Subscribers of a publication FOR ALL
// TABLES need them as well.
const SourceTables = `CREATE TABLE crossfade.run (
	one boolean PRIMARY KEY DEFAULT true CHECK (one),
	run_id text NOT NULL,
	key_digest bytea NOT NULL,` + epochColumns + `
	changed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
` + sideTables + `CREATE TABLE crossfade.marker (
	nonce text PRIMARY KEY
);
CREATE TABLE crossfade.job (
	jobid bigint PRIMARY KEY,
	active boolean NOT NULL
);
`

// SourceDDL makes the schema crossfade on the source.
const SourceDDL = `
CREATE SCHEMA crossfade;
` + schemaComment + SourceTables + ownRights + sourceRights + OpenFence + fenceRights

// TargetDDL makes the schema crossfade on the target.
const TargetDDL = `
CREATE SCHEMA crossfade;
` + schemaComment + `CREATE TABLE crossfade.run (
	one boolean PRIMARY KEY DEFAULT true CHECK (one),
	run_id text NOT NULL,
	key text NOT NULL,
	key_digest bytea NOT NULL,
	mode text NOT NULL DEFAULT 'run',
	options text NOT NULL DEFAULT '',
	source_system text NOT NULL,
	source_database text NOT NULL,
	slot text NOT NULL DEFAULT '',
	phase text NOT NULL DEFAULT 'started',
	consistent_point pg_lsn,
	slot_snapshot text NOT NULL DEFAULT '',
	archive bytea,
	archive_now bytea,
	digest text NOT NULL DEFAULT '',
	roles text NOT NULL DEFAULT '',
	fingerprint text NOT NULL DEFAULT '',
	publication text NOT NULL DEFAULT '',` + epochColumns + `
	changed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
` + sideTables + `CREATE TABLE crossfade.relation (
	relid oid PRIMARY KEY,
	nsp text NOT NULL,
	rel text NOT NULL,
	via_nsp text NOT NULL DEFAULT '',
	via_rel text NOT NULL DEFAULT '',
	snapshot text,
	filenode oid,
	state text NOT NULL,
	rows bigint NOT NULL DEFAULT 0,
	bytes bigint NOT NULL DEFAULT 0,
	attempt integer NOT NULL DEFAULT 0,
	repaired bytea,
	restarts integer NOT NULL DEFAULT 0,
	repairs integer NOT NULL DEFAULT 0,
	repaired_keys bigint NOT NULL DEFAULT 0
);
CREATE TABLE crossfade.published (
	relid oid PRIMARY KEY,
	nsp text NOT NULL,
	rel text NOT NULL,
	columns text[] NOT NULL,
	entry text NOT NULL,
	taken_out text NOT NULL DEFAULT ''
);
CREATE TABLE crossfade.identity (
	side text NOT NULL,
	relid oid NOT NULL,
	state text NOT NULL,
	PRIMARY KEY (side, relid)
);
CREATE TABLE crossfade.chunk (
	relid oid NOT NULL,
	lo bigint NOT NULL,
	hi bigint NOT NULL,
	snapshot text NOT NULL,
	rows bigint NOT NULL,
	bytes bigint NOT NULL,
	attempt integer NOT NULL DEFAULT 0,
	PRIMARY KEY (relid, lo)
);
CREATE TABLE crossfade.large_object (
	oid oid PRIMARY KEY
);
CREATE TABLE crossfade.unfollowed (
	what text PRIMARY KEY,
	mark text NOT NULL
);
CREATE TABLE crossfade.delta (
	relid oid NOT NULL,
	attempt integer NOT NULL,
	digest bytea NOT NULL,
	key text[] NOT NULL,
	PRIMARY KEY (relid, attempt, digest)
);
CREATE TABLE crossfade.proof (
	epoch bigint NOT NULL,
	nsp text NOT NULL,
	rel text NOT NULL,
	verdict text NOT NULL,
	reason text NOT NULL DEFAULT '',
	source_rows bigint NOT NULL DEFAULT 0,
	target_rows bigint NOT NULL DEFAULT 0,
	keys text[] NOT NULL DEFAULT '{}',
	found_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	PRIMARY KEY (epoch, nsp, rel)
);
CREATE TABLE crossfade.verification (
	round bigint PRIMARY KEY,
	direction text NOT NULL,
	begun_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	ended_at timestamptz,
	verdict text NOT NULL DEFAULT '',
	tables integer NOT NULL DEFAULT 0,
	sequences integer NOT NULL DEFAULT 0
);
CREATE TABLE crossfade.verified (
	round bigint NOT NULL,
	kind text NOT NULL,
	nsp text NOT NULL,
	rel text NOT NULL,
	verdict text NOT NULL,
	reason text NOT NULL DEFAULT '',
	from_rows bigint NOT NULL DEFAULT 0,
	to_rows bigint NOT NULL DEFAULT 0,
	keys text[] NOT NULL DEFAULT '{}',
	found_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	PRIMARY KEY (round, kind, nsp, rel)
);
CREATE TABLE crossfade.item (
	id integer PRIMARY KEY,
	section text NOT NULL,
	kind text NOT NULL,
	nsp text NOT NULL DEFAULT '',
	name text NOT NULL,
	done boolean NOT NULL DEFAULT true
);
CREATE TABLE crossfade.aside (
	id integer PRIMARY KEY,
	name text NOT NULL,
	sql text NOT NULL
);
CREATE TABLE crossfade.job (
	jobid bigint PRIMARY KEY,
	active boolean NOT NULL,
	port integer NOT NULL DEFAULT 0,
	done boolean NOT NULL DEFAULT false
);
CREATE TABLE crossfade.seal (
	relid oid PRIMARY KEY,
	nsp text NOT NULL,
	rel text NOT NULL,
	trigger oid NOT NULL,
	version text NOT NULL
);
CREATE TABLE crossfade.pin (
	role text NOT NULL,
	name text NOT NULL,
	value text NOT NULL,
	PRIMARY KEY (role, name)
);
CREATE TABLE crossfade.type (
	oid oid PRIMARY KEY,
	nsp text NOT NULL,
	name text NOT NULL,
	kind text NOT NULL,
	elem oid NOT NULL
);
CREATE TABLE crossfade.role (
	name text PRIMARY KEY,
	can_login boolean NOT NULL,
	can_connect boolean NOT NULL DEFAULT true,
	valid_until timestamptz,
	secret text NOT NULL DEFAULT ''
);
CREATE TABLE crossfade.login (
	name text PRIMARY KEY,
	secret bytea
);
CREATE TABLE crossfade.undo (
	id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
	sql text NOT NULL UNIQUE
);
` + ownRights + ShutFence + fenceRights
