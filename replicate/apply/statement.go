package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/internal/base/pg"
)

// statement is one SQL text and what must be known to send it.
type statement struct {
	sql    string
	binary bool // parameters are arrays in binary format; otherwise text
}

// shape identifies a statement of a table. Statements are made once per session and shape.
type shape struct {
	table *table
	op    byte   // 'I', 'U', 'D' by key; 'u', 'd' by whole row; 'x' is there
	set   string // columns that are set, a byte pair for each
	null  string // for whole rows: which old values are null
	check bool   // fails by itself when it changes another number of rows than it was given
}

// columnSet writes columns as the text that shape holds.
func columnSet(cols []int) string {
	b := make([]byte, 0, 2*len(cols))
	for _, i := range cols {
		b = append(b, byte(i>>8), byte(i))
	}
	return string(b)
}

func columnsOf(set string) []int {
	cols := make([]int, 0, len(set)/2)
	for i := 0; i+1 < len(set); i += 2 {
		cols = append(cols, int(set[i])<<8|int(set[i+1]))
	}
	return cols
}

func (s shape) build() *statement {
	t := s.table
	var body string
	binary := true
	switch s.op {
	case 'I':
		body = t.insertSQL()
	case 'U':
		body = t.updateSQL(columnsOf(s.set))
	case 'D':
		body = fmt.Sprintf("DELETE FROM %s%s AS t USING %s WHERE %s", t.only, t.into, t.given(nil), t.matches())
	case 'x':
		body = fmt.Sprintf("SELECT 1 FROM %s%s AS t, %s WHERE %s", t.only, t.into, t.given(nil), t.matches())
	case 'u', 'd':
		body, binary = t.wholeRowSQL(s), false
	}
	if !s.check {
		return &statement{sql: body, binary: binary}
	}
	if !strings.HasPrefix(body, "SELECT") {
		body += " RETURNING 1"
	}
	want := "1"
	if !s.one() {
		want = t.count(s)
	}
	// One row for a match, division by zero for a mismatch.
	return &statement{binary: binary, sql: "WITH done AS (" + body + ")" +
		" SELECT 1 OPERATOR(pg_catalog./) (pg_catalog.count(*) OPERATOR(pg_catalog.=) " + want + ")::pg_catalog.int4 FROM done"}
}

// one reports whether the statement is of one row and not of arrays.
func (s shape) one() bool {
	return s.op == 'u' || s.op == 'd' || (s.op == 'I' && len(s.table.stored) == 0)
}

// given is the FROM item of the values that a statement gets: the key columns
// as k0, k1, … and the others as v0, v1, …
func (t *table) given(set []int) string {
	var params, names []string
	for n, i := range t.key {
		params, names = append(params, t.cols[i].asKey().item(n+1)), append(names, fmt.Sprintf("k%d", n))
	}
	for n, i := range set {
		params = append(params, t.cols[i].item(len(t.key)+n+1))
		names = append(names, fmt.Sprintf("v%d", n))
	}
	return "ROWS FROM (" + strings.Join(params, ", ") + ") AS v(" + strings.Join(names, ", ") + ")"
}

// matches is the condition that row t is the one named by v.
func (t *table) matches() string {
	var conds []string
	for n, i := range t.key {
		c, given := &t.cols[i], fmt.Sprintf("v.k%d", n)
		if c.eq == "" {
			conds = append(conds, c.text("t")+" OPERATOR(pg_catalog.=) "+given)
			continue
		}
		conds = append(conds, fmt.Sprintf("%s %s %s", c.comparable("t"), c.eq, c.forOperator(c.value(given))))
	}
	return strings.Join(conds, " AND ")
}

func (t *table) insertSQL() string {
	if len(t.stored) == 0 {
		return "INSERT INTO " + t.into.String() + " DEFAULT VALUES"
	}
	var names, params, values, given []string
	for n, i := range t.stored {
		names = append(names, t.cols[i].name)
		params = append(params, t.cols[i].item(n+1))
		values = append(values, t.cols[i].value(fmt.Sprintf("v.v%d", n)))
		given = append(given, fmt.Sprintf("v%d", n))
	}
	return fmt.Sprintf("INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM ROWS FROM (%s) AS v(%s)",
		t.into, strings.Join(names, ", "), strings.Join(values, ", "), strings.Join(params, ", "), strings.Join(given, ", "))
}

// updateSQL sets columns of the rows that the key names. An identity column GENERATED ALWAYS cannot
// be set: that its value is what it should be is then part of the condition.
func (t *table) updateSQL(set []int) string {
	var assigns []string
	cond := t.matches()
	for n, i := range set {
		c := &t.cols[i]
		value := c.value(fmt.Sprintf("v.v%d", n))
		if c.always && !t.isKey(i) {
			cond += fmt.Sprintf(" AND %s OPERATOR(pg_catalog.=) %s", c.base("t"), value)
			continue
		}
		assigns = append(assigns, c.name+" = "+value)
	}
	if len(assigns) == 0 {
		return fmt.Sprintf("SELECT 1 FROM %s%s AS t, %s WHERE %s", t.only, t.into, t.given(set), cond)
	}
	return fmt.Sprintf("UPDATE %s%s AS t SET %s FROM %s WHERE %s", t.only, t.into, strings.Join(assigns, ", "), t.given(set), cond)
}

// wholeRowSQL updates or deletes one row among all that are equal to the old one. Values compare by
// their text unless their type has one text for each value, in which case an index may help. Each
// value is a parameter of its type, in text, which the server hands to the type's input function.
func (t *table) wholeRowSQL(s shape) string {
	set := columnsOf(s.set)
	param := 0
	next := func(typ string) string { param++; return fmt.Sprintf("$%d::%s", param, typ) }
	var conds, assigns []string
	for n, i := range t.stored {
		c := &t.cols[i]
		switch {
		case s.null[n] == 1:
			conds = append(conds, "o."+c.name+" IS NULL")
		case c.canon == canonExact:
			conds = append(conds, fmt.Sprintf("%s OPERATOR(pg_catalog.=) %s", c.base("o"), next(c.typ)))
		default:
			conds = append(conds, fmt.Sprintf("%s OPERATOR(pg_catalog.=) %s", c.text("o"), next(textType)))
		}
	}
	if len(conds) == 0 {
		conds = []string{"true"}
	}
	for _, i := range set {
		assigns = append(assigns, t.cols[i].name+" = "+next(t.cols[i].typ))
	}
	row, sel := "t.ctid", "o.ctid"
	if t.root {
		row, sel = "(t.tableoid, t.ctid)", "o.tableoid, o.ctid"
	}
	cond := fmt.Sprintf("%s = (SELECT %s FROM %s%s AS o WHERE %s LIMIT 1)", row, sel, t.only, t.into, strings.Join(conds, " AND "))
	if s.op == 'd' {
		return fmt.Sprintf("DELETE FROM %s%s AS t WHERE %s", t.only, t.into, cond)
	}
	if len(assigns) == 0 {
		return fmt.Sprintf("SELECT 1 FROM %s%s AS t WHERE %s", t.only, t.into, cond)
	}
	return fmt.Sprintf("UPDATE %s%s AS t SET %s WHERE %s", t.only, t.into, strings.Join(assigns, ", "), cond)
}

var errBatchLimit = errors.New("the target did not finish in time")

// executor sends steps to the target in pipelines: one round trip for all that
// one call of run is given. It is not safe for concurrent use.
type executor struct {
	conn     *pgx.Conn
	shapes   map[shape]*statement
	prepared map[*statement]string
	names    int // given out so far; a name is never used twice
}

// statement returns the statement of a shape, the same each time.
func (x *executor) statement(s shape) *statement {
	st := x.shapes[s]
	if st == nil {
		st = s.build()
		x.shapes[s] = st
	}
	return st
}

// control is a step that is no change, such as BEGIN.
func control(sql string) step { return step{stmt: &statement{sql: sql}, want: -1, once: true} }

// failure is the error of one step.
type failure struct {
	step int
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// run sends the steps as one pipeline and checks each answer. On the first error the server leaves
// out what follows, and the error is a *failure that names the step. The connection is left within
// a failed transaction then, or closed.
func (x *executor) run(ctx context.Context, steps []step) error {
	p := x.conn.PgConn().StartPipeline(ctx)
	type answer struct {
		step    int
		prepare *statement // not nil: the answer to Parse
	}
	var answers []answer
	names := map[*statement]string{}
	for n := range steps {
		s := &steps[n]
		var formats []int16
		if s.stmt.binary {
			formats = binaryFormat
		}
		name := cmp.Or(x.prepared[s.stmt], names[s.stmt])
		if name == "" && !s.once && x.names < maxPrepared {
			x.names++
			name = "crossfade_" + strconv.Itoa(x.names)
			names[s.stmt] = name
			p.SendPrepare(name, s.stmt.sql, nil)
			answers = append(answers, answer{n, s.stmt})
		}
		if name == "" {
			p.SendQueryParams(s.stmt.sql, s.params, nil, formats, nil)
		} else {
			p.SendQueryPrepared(name, s.params, formats, nil)
		}
		answers = append(answers, answer{n, nil})
	}
	if err := p.Sync(); err != nil {
		_ = p.Close()
		return fmt.Errorf("send batch: %w", err)
	}
	var first error
	for _, a := range answers {
		result, err := p.GetResults()
		if err == nil {
			switch result := result.(type) {
			case *pgconn.StatementDescription:
				x.prepared[a.prepare] = names[a.prepare]
				continue
			case *pgconn.ResultReader:
				err = check(&steps[a.step], result)
			}
		}
		if err != nil {
			first = &failure{step: a.step, err: err}
			break
		}
	}
	err := p.Close()
	switch {
	case first != nil:
		return first
	case err != nil:
		return fmt.Errorf("run batch: %w", err)
	}
	return nil
}

var binaryFormat = []int16{1}

func check(s *step, r *pgconn.ResultReader) error {
	tag, err := r.Close()
	if err != nil {
		return err
	}
	if got := tag.RowsAffected(); s.want >= 0 && got != s.want {
		return &countError{want: s.want, got: got}
	}
	if s.stmt.sql == commitSQL && tag.String() != commitSQL {
		return errors.New("the target rolled back instead of committing")
	}
	return nil
}

const commitSQL = "COMMIT"

// rollback ends a transaction if one is open.
func (x *executor) rollback(ctx context.Context) error {
	if x.conn.IsClosed() || x.conn.PgConn().TxStatus() == 'I' {
		return nil
	}
	err := x.run(ctx, []step{control("ROLLBACK")})
	return pg.Wrap(err, "roll back")
}
