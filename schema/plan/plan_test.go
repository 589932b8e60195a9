package plan

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/schema/archive"
)

func entry(id int, section archive.Section, kind, tag, definition string, on ...int) archive.Entry {
	return archive.Entry{ID: id, OID: uint32(1000 + id), Section: section, Kind: kind, Tag: tag, Schema: "s", Owner: "o", Definition: definition, Dependencies: on}
}

func tags(entries []*archive.Entry) []string {
	out := []string{}
	for _, e := range entries {
		out = append(out, e.Kind+" "+e.Tag)
	}
	return out
}

func TestPlanSplits(t *testing.T) {
	t.Parallel()
	fk := "ALTER TABLE ONLY s.t ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES s.u(id);"
	a := &archive.Archive{Entries: []archive.Entry{
		entry(1, archive.SectionPreData, "ENCODING", "ENCODING", "SET client_encoding = 'UTF8';"),
		entry(2, archive.SectionPreData, "TABLE", "t", "CREATE TABLE s.t ();"),
		entry(3, archive.SectionNone, "ACL", "TABLE t", "GRANT SELECT ON TABLE s.t TO r;", 2),
		entry(4, archive.SectionNone, "COMMENT", "TABLE t", "COMMENT ON TABLE s.t IS 'x';", 2),
		entry(5, archive.SectionPreData, "VIEW", "v", "CREATE VIEW s.v AS SELECT NULL::int;"),
		entry(6, archive.SectionNone, "ACL", "TABLE audit", "REVOKE ALL ON TABLE s.audit FROM o;", 2),
		entry(7, archive.SectionData, "TABLE DATA", "t", "", 2),
		entry(8, archive.SectionPostData, "CONSTRAINT", "t pk", "ALTER TABLE ONLY s.t ADD CONSTRAINT pk PRIMARY KEY (id);", 2, 7),
		entry(9, archive.SectionPostData, "RULE", "v _RETURN", "CREATE OR REPLACE VIEW s.v AS SELECT 1;", 5, 8),
		entry(10, archive.SectionPostData, "RULE", "t keep", "CREATE RULE keep AS ON DELETE TO s.t DO INSTEAD NOTHING;", 2),
		entry(11, archive.SectionNone, "COMMENT", "RULE keep ON t", "COMMENT ON RULE keep ON s.t IS 'x';", 10),
		entry(12, archive.SectionPostData, "TRIGGER", "t zz_crossfade_fence", "CREATE TRIGGER zz_crossfade_fence ...;", 2),
		entry(13, archive.SectionPostData, "TRIGGER", "t touch", "CREATE TRIGGER touch ...;", 2),
		entry(14, archive.SectionPostData, "FK CONSTRAINT", "t k", fk, 2, 8),
		entry(15, archive.SectionPostData, "EVENT TRIGGER", "e", "CREATE EVENT TRIGGER e ...;"),
		entry(16, archive.SectionPostData, "DEFAULT ACL", "DEFAULT PRIVILEGES FOR TABLES", "ALTER DEFAULT PRIVILEGES FOR ROLE o GRANT SELECT ON TABLES TO r2;"),
		entry(17, archive.SectionPostData, "PUBLICATION", "p", "CREATE PUBLICATION p;"),
		entry(18, archive.SectionNone, "COMMENT", "PUBLICATION p", "COMMENT ON PUBLICATION p IS 'x';", 17),
		entry(19, archive.SectionPostData, "ROW SECURITY", "t", "ALTER TABLE s.t ENABLE ROW LEVEL SECURITY;", 2),
		entry(20, archive.SectionPostData, "POLICY", "t p", "CREATE POLICY p ON s.t TO r3;", 2),
		entry(21, archive.SectionPostData, "MATERIALIZED VIEW", "m", "CREATE MATERIALIZED VIEW s.m AS SELECT 1;", 8),
		entry(22, archive.SectionNone, "ACL", "TABLE m", "GRANT SELECT ON TABLE s.m TO r;", 21),
		entry(23, archive.SectionNone, "ACL", "TABLE t.x", "GRANT SELECT ON TABLE s.t TO r;", 99),
	}}
	a.Entries = append(a.Entries, archive.Entry{ID: 30, Kind: "SCHEMA", Tag: "crossfade", Section: archive.SectionPreData, Definition: "CREATE SCHEMA crossfade;"})
	p := New(a)
	require.Equal(t, []string{"TABLE t", "COMMENT TABLE t", "VIEW v", "ACL TABLE t", "ACL TABLE t.x"}, tags(p.PreData))
	require.Equal(t, []string{"CONSTRAINT t pk", "RULE v _RETURN", "POLICY t p", "MATERIALIZED VIEW m", "ACL TABLE m"}, tags(p.AfterCopy))
	require.Equal(t, []string{"RULE t keep", "TRIGGER t touch", "FK CONSTRAINT t k", "ROW SECURITY t", "ACL TABLE audit"}, tags(p.Decision))
	require.Equal(t, []string{"COMMENT RULE keep ON t", "DEFAULT ACL DEFAULT PRIVILEGES FOR TABLES", "EVENT TRIGGER e"}, tags(p.Last))
	require.Len(t, p.Notes, 1)
	require.True(t, p.Notes[0].Harmless)
	require.Equal(t, []string{"o", "r", "r2", "r3"}, p.Roles())
	require.Equal(t, uint32(1002), p.Table(p.ByID[8]))
	require.Equal(t, uint32(1002), p.Table(p.ByID[14]))
	require.Zero(t, p.Table(p.ByID[3]))
}
