package expression

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
)

// Try evaluates expressions that call functions for some rows of the source, as the target will: it
// names functions that do not find their names there, and values that depend on the rows of other
// tables, which arrive in any order. A run that is continued was checked before.
func Try(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	if p.Options.Resume || p.Options.Scope.SchemaOnly {
		return nil, nil
	}
	target, err := inquiry.Version(ctx, p.Target)
	if err != nil {
		return nil, err
	}
	return tryFor(ctx, p, target)
}

// tryFor is Try for a target of a version.
func tryFor(ctx context.Context, p *inquiry.Pair, target int) ([]answer.Finding, error) {
	major, err := inquiry.Version(ctx, p.Source)
	if err != nil {
		return nil, err
	}
	all, err := readExpressions(ctx, p, major)
	if err != nil {
		return nil, err
	}
	domains, err := readDomains(ctx, p)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 && len(domains) == 0 {
		return nil, nil
	}
	t, err := openTrials(ctx, p)
	if err != nil {
		return nil, err
	}
	defer t.close(ctx)
	c := &expressionCheck{p: p, trials: t, source: major, target: target, domains: domains, at: map[uint32]int{}}
	if err := c.learn(ctx, all, domains); err != nil {
		return nil, err
	}
	for _, e := range all {
		if err := c.tryOne(ctx, e); err != nil {
			return nil, err
		}
	}
	for _, d := range domains {
		if err := c.tryDomain(ctx, d); err != nil {
			return nil, err
		}
	}
	return slices.Concat(c.functions, c.reading, c.unseenOnes()), nil
}

type expressionCheck struct {
	p              *inquiry.Pair
	trials         *trials
	source, target int // versions
	known          map[uint32]called
	domains        []domainUse
	paths          []string // that someone has set on the source

	functions []answer.Finding
	at        map[uint32]int // function → its finding
	reading   []answer.Finding
	unseen    []unseen
}

// learn reads what there is to know of the functions.
func (c *expressionCheck) learn(ctx context.Context, all []evaluated, domains []domainUse) (err error) {
	var oids []uint32
	for _, e := range all {
		oids = append(oids, e.Functions...)
	}
	for _, d := range domains {
		oids = append(oids, d.Functions...)
	}
	if c.known, err = calledOnes(ctx, c.p.Source, oids); err != nil {
		return err
	}
	c.paths, err = inquiry.Column[string](ctx, c.p.Source, "settings of roles", `SELECT DISTINCT substr(x, 13) FROM pg_db_role_setting s, unnest(s.setconfig) x
		WHERE x LIKE 'search\_path=%' AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) ORDER BY 1`)
	return err
}

// tryOne tries one expression.
func (c *expressionCheck) tryOne(ctx context.Context, e evaluated) error {
	if !e.Trusted {
		c.notTrusted(e.Kind+" "+e.Name, e.Owner)
		return nil
	}
	restricted := e.restricted() && c.target >= restrictsSearchPath && !c.p.Options.Scope.DataOnly
	got, err := c.trials.try(ctx, e, restricted)
	if err != nil {
		return err
	}
	switch {
	case got.own.missesName():
		return c.pathless(ctx, e, got.own)
	case got.own.Unseen:
		c.notSeen(e, got.own)
		return nil
	case restricted && got.restricted.missesName():
		c.name(e, got.restricted, c.trials.path, fmt.Sprintf("finds what it names by way of search_path, which a server of PostgreSQL %d sets to %s while it makes or fills %s %s: %s",
			c.target/10000, restrictedPath, e.Kind, e.Name, got.restricted.Said.Message))
	case restricted && e.Kind != ofMatView && !got.restricted.Unseen && got.restricted.Values != got.own.Values:
		c.name(e, got.restricted, c.trials.path, fmt.Sprintf("gives other values under the search_path %s, which a server of PostgreSQL %d sets while it makes %s %s",
			restrictedPath, c.target/10000, e.Kind, e.Name))
	}
	if len(got.others) > 0 {
		c.reads(e, got.others)
	}
	return nil
}

// pathless names functions that do not find their names under the path of the source's
// role either, and looks for a path under which they do.
func (c *expressionCheck) pathless(ctx context.Context, e evaluated, o outcome) error {
	near := lists.AddNew(nil, lists.Pick(e.Functions, func(oid uint32) (string, bool) {
		return c.known[oid].Schema, c.known[oid].Schema != ""
	})...)
	if schema, _, ok := strings.Cut(e.Relation, "."); ok {
		near = lists.AddNew(near, schema)
	}
	near = lists.AddNew(near, "public")
	works := ""
	for _, path := range append(slices.Clone(c.paths), strings.Join(near, ", ")) {
		found, err := c.trials.under(ctx, path, e)
		if err != nil {
			return err
		}
		if !found.missesName() && !found.Unseen {
			works = path
			break
		}
	}
	own := cmp.Or(c.trials.path, "''")
	c.name(e, o, works, fmt.Sprintf("does not find what it names under the search_path that the role of --source has in its database (%s), under which %s %s is evaluated on the target: %s", own, e.Kind, e.Name, o.Said.Message))
	return nil
}

// guilty are the functions of an expression that may have caused a failed attempt: those that the
// server's message names, if it names some.
func (c *expressionCheck) guilty(functions []uint32, o outcome) (out []called) {
	may := lists.Pick(functions, func(oid uint32) (called, bool) {
		f, ok := c.known[oid]
		return f, ok && !f.Set
	})
	if o.Said == nil {
		return may
	}
	lines := strings.Split(o.Said.Where, "\n")
	slices.Reverse(lines) // the outermost is the last
	for _, line := range lines {
		out = append(out, lists.Filter(may, func(f called) bool {
			return strings.Contains(line, `"`+f.Name+`"`) || strings.Contains(line, " "+f.Signature) || strings.Contains(line, f.Name+"(")
		})...)
		if len(out) > 0 {
			return out
		}
	}
	return may
}

// name adds a finding for each function that is to be blamed; why comes after its name. path
// is one under which it works, "" for none.
func (c *expressionCheck) name(e evaluated, o outcome, path, why string) {
	for _, f := range c.guilty(e.Functions, o) {
		if i, told := c.at[f.OID]; told {
			if more := "; so it is with " + e.Kind + " " + e.Name; !strings.Contains(c.functions[i].Detail, e.Kind+" "+e.Name) {
				c.functions[i].Detail += more
			}
			continue
		}
		found := answer.Finding{Code: "function_search_path", Severity: answer.Blocker, Object: f.Signature, Detail: why,
			Remedy: "let its body name what it uses with its schema"}
		if c.p.Options.Mode == inquiry.Copy { // which continues with everything else, and reports it at the end
			found.Severity = answer.Warning
		}
		if path != "" {
			found.SQL, found.On = "ALTER FUNCTION "+f.Signature+" SET search_path = "+path, answer.Source
			found.Remedy = found.SQL + " (on the source, before the move)"
		}
		if f.Extension != "" { // whose functions no dump holds
			found.Severity = answer.Warning
			found.Detail += "; it belongs to extension " + f.Extension + ", whose version on the target may do otherwise"
			found.SQL, found.On = "", ""
			found.Remedy = "drop " + e.Kind + " " + e.Name + " on the source before the move, or make the extension on the target and there set a search_path for the function"
		}
		c.at[f.OID] = len(c.functions)
		c.functions = append(c.functions, found)
	}
}

// reads names what is evaluated while the rows of the other tables that it reads are not all there.
func (c *expressionCheck) reads(e evaluated, others []pg.Name) {
	names := lists.Map(others, pg.Name.Display)
	of := strings.Join(names, ", ")
	f := answer.Finding{Code: "expression_reads_tables", Severity: answer.Blocker, Object: e.Name}
	switch {
	case e.Kind == ofGenerated:
		f.Detail = fmt.Sprintf("this generated column reads %s: the target computes it again while rows come in another order, and may get another value or none", of)
		f.Remedy = "drop the column, or have it depend on its own row alone"
		if c.source >= dropsExpressions {
			f.SQL, f.On = plainColumn(e), answer.Source
			f.Remedy = "make it a plain column that a trigger fills, whose values are moved as they are: " + f.SQL
		}
	case e.Kind == ofPartition:
		f.Detail = fmt.Sprintf("its partition key reads %s: the target routes rows before those are all there, and may refuse them", of)
		f.Remedy = "partition it by what is in the row alone"
	case e.Kind == ofIndex && c.p.Options.Mode == inquiry.Run:
		f.Severity = answer.Warning
		f.Detail = fmt.Sprintf("this index reads %s: what is written to both while the run follows is applied in another order, and the index may hold other values than on the source", of)
		f.Remedy = fmt.Sprintf("REINDEX INDEX CONCURRENTLY %s on the target, after the switch", e.Name)
	default:
		return
	}
	if !slices.ContainsFunc(c.reading, func(x answer.Finding) bool { return x.Object == f.Object }) {
		c.reading = append(c.reading, f)
	}
}

// dropsExpressions is the first version that makes a generated column a plain one.
const dropsExpressions = 130000

// plainColumn has a trigger fill what was a generated column, by the same expression.
func plainColumn(e evaluated) string {
	schema, table := splitName(e.Relation)
	name := pg.Name{Schema: schema, Name: pg.ExtendName(table+"_"+e.Column, "_filled")}
	column := pg.QuoteIdent(e.Column)
	body := fmt.Sprintf("BEGIN NEW.%s := (SELECT %s FROM (SELECT NEW.*) AS %s); RETURN NEW; END", column, e.Expr, pg.QuoteIdent(table))
	return fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s DROP EXPRESSION; CREATE FUNCTION %s() RETURNS trigger LANGUAGE plpgsql AS %s; CREATE TRIGGER %s BEFORE INSERT OR UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION %s()",
		e.Relation, column, name, strings.TrimSpace(pg.QuoteLiteral(body)), pg.QuoteIdent(pg.ExtendName("zz_"+table+"_"+e.Column, "_filled")), e.Relation, name)
}

// splitName splits a qualified name, as it is written in SQL.
func splitName(name string) (schema, rel string) {
	var parts [2]strings.Builder
	at, quoted := 0, false
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c == '"' && quoted && i+1 < len(name) && name[i+1] == '"':
			parts[at].WriteByte('"')
			i++
		case c == '"':
			quoted = !quoted
		case c == '.' && !quoted && at == 0:
			at = 1
		default:
			parts[at].WriteByte(c)
		}
	}
	return parts[0].String(), parts[1].String()
}

// unseen is what could not be tried, and why.
type unseen struct{ object, why string }

func (c *expressionCheck) notSeen(e evaluated, o outcome) {
	why := fmt.Sprintf("all of them together take longer than %v", expressionsTimeout)
	if o.Cause != nil {
		why = o.Cause.Message
	}
	c.unseen = append(c.unseen, unseen{e.Kind + " " + e.Name, why})
}

// notTrusted notes that functions of another role were not executed.
func (c *expressionCheck) notTrusted(object, owner string) {
	c.unseen = append(c.unseen, unseen{object, "it belongs to role " + owner + ", whose functions are not executed with the rights of another role; crossfade check with that role in --source tries them"})
}

// unseenOnes says of what nothing is known.
func (c *expressionCheck) unseenOnes() []answer.Finding {
	if len(c.unseen) == 0 {
		return nil
	}
	more := ""
	if n := len(c.unseen) - 1; n > 0 {
		more = "; so it is with " + answer.Count(n, "other")
	}
	return []answer.Finding{{Code: "expression_not_tried", Severity: answer.Info, Object: c.unseen[0].object,
		Detail: "whether the target can evaluate it was not to be seen on the source: " + c.unseen[0].why + more,
		Remedy: "crossfade copy into an empty database beforehand shows it"}}
}
