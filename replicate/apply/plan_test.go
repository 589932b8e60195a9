package apply

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/replicate/stream"
)

// planTable is a table (id key, a, b).
func planTable(c canon) *table {
	rel := &stream.Relation{Name: pg.Name{Schema: "s", Name: "t"}, Identity: stream.IdentityDefault, Columns: []stream.Column{{Name: "id", Key: true}, {Name: "a"}, {Name: "b"}}}
	t := &table{rel: rel, into: rel.Name, only: "ONLY ", key: []int{0}, stored: []int{0, 1, 2}, coalesce: c != canonNone}
	for i, n := range []string{"id", "a", "b"} {
		t.cols = append(t.cols, column{name: pg.QuoteIdent(n), raw: n, typ: "text", eq: "="})
		if i == 0 {
			t.cols[i].canon = c
		}
	}
	return t
}

// vals makes a tuple of words; "~" is null and "-" is unchanged.
func vals(text string) []stream.Value {
	var list []stream.Value
	for _, w := range strings.Fields(text) {
		switch w {
		case "~":
			list = append(list, stream.Value{Kind: stream.Null})
		case "-":
			list = append(list, stream.Value{Kind: stream.Unchanged})
		default:
			list = append(list, stream.Value{Kind: stream.Text, Data: []byte(w)})
		}
	}
	return list
}

// changesOf reads lines such as "I 1 x y", "D 1", "U 1 - y", "M 1 : 2 x y".
func changesOf(lines string) []stream.Change {
	var list []stream.Change
	for _, line := range strings.Split(lines, ";") {
		kind, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		c := stream.Change{Kind: kind[0], NewTuple: vals(rest)}
		switch kind {
		case "D":
			c.Old, c.OldTuple, c.NewTuple = stream.OldKey, vals(rest+" ~ ~"), nil
		case "M":
			old, next, _ := strings.Cut(rest, ":")
			c = stream.Change{Kind: stream.KindUpdate, Old: stream.OldKey, OldTuple: vals(old + " ~ ~"), NewTuple: vals(next)}
		}
		list = append(list, c)
	}
	return list
}

// planned tells the steps as "D 1,2" or "U(1) 5": kind, columns set, first column of the rows.
func planned(t *testing.T, tab *table, byRow bool, lines string) string {
	t.Helper()
	shapes := map[*statement]shape{}
	p := newPlanner(func(s shape) *statement { st := s.build(); shapes[st] = s; return st }, byRow)
	list := changesOf(lines)
	before := fmt.Sprint(list)
	for i := range list {
		o, err := opOf(&list[i], tab, nil)
		require.NoError(t, err)
		p.add(o)
	}
	p.flushAll()
	require.Equal(t, before, fmt.Sprint(list), "a replay must find the changes as they were")
	var out []string
	for _, s := range p.steps {
		sh := shapes[s.stmt]
		set := ""
		if sh.set != "" {
			set = fmt.Sprint(columnsOf(sh.set))
		}
		var cols []string
		for _, param := range s.params {
			cols = append(cols, strings.Join(elements(t, param), ","))
		}
		require.Equal(t, byRow, s.want == 1)
		out = append(out, string(sh.op)+set+" "+strings.Join(cols, "|"))
	}
	return strings.Join(out, "; ")
}

// elements reads a binary text[].
func elements(t *testing.T, b []byte) []string {
	t.Helper()
	be := func() int {
		require.GreaterOrEqual(t, len(b), 4)
		n := int(int32(b[0])<<24 | int32(b[1])<<16 | int32(b[2])<<8 | int32(b[3]))
		b = b[4:]
		return n
	}
	require.Equal(t, 1, be())
	hasNull := be()
	require.Equal(t, 25, be())
	n := be()
	require.Equal(t, 1, be())
	var list []string
	nulls := 0
	for range n {
		if size := be(); size < 0 {
			list, nulls = append(list, "~"), 1
		} else {
			list, b = append(list, string(b[:size])), b[size:]
		}
	}
	require.Empty(t, b)
	require.Equal(t, hasNull, nulls)
	return list
}

func TestNetEffects(t *testing.T) {
	t.Parallel()
	for lines, want := range map[string]string{
		"I 1 x y; I 2 x ~":                      "I 1,2|x,x|y,~",
		"I 1 x y; U 1 z -":                      "I 1|z|y",
		"I 1 x y; D 1":                          "",
		"I 1 x y; D 1; I 1 p q":                 "I 1|p|q",
		"U 1 x -; U 1 - y":                      "U[1 2] 1|x|y",
		"U 1 x y; U 1 z -":                      "U[1 2] 1|z|y",
		"U 1 x -; U 2 y -; U 3 - z":             "U[1] 1,2|x,y; U[2] 3|z",
		"U 1 x y; D 1":                          "D 1",
		"D 1; I 1 x y":                          "D 1; I 1|x|y",
		"D 1; I 1 x y; U 1 - z":                 "D 1; I 1|x|z",
		"D 1; I 1 x y; D 1":                     "D 1",
		"I 3 x y; D 2; U 1 - b":                 "D 2; U[2] 1|b; I 3|x|y",
		"U 1 - -":                               "x 1",
		"M 1 : 2 x y":                           "D 1; I 2|x|y",
		"I 1 x y; M 1 : 2 x y; U 2 z -":         "I 2|z|y",
		"M 1 : 2 x y; M 3 : 1 p q":              "D 1,3; I 1,2|p,x|q,y",
		"U 1 a b; M 1 : 2 x -; U 2 - c":         "U[1 2] 1|a|b; U[0 1] 1|2|x; U[2] 2|c",
		"I 1 x y; I 1 p q":                      "I 1|x|y; I 1|p|q", // for the target to refuse
		"D 1; U 1 x y":                          "D 1; U[1 2] 1|x|y",
		"D 1; D 1":                              "D 1; D 1",
		"I 10 x y; I 9 x y; I 11 x y; I 1 x y":  "I 1,9,10,11|x,x,x,x|y,y,y,y",
		"I 1 x y; D 1; U 1 p q":                 "U[1 2] 1|p|q",
		"D 1; I 1 x y; M 1 : 5 x y; I 1 p q":    "D 1; I 1,5|p,x|q,y",
		"U 1 a b; D 1; I 1 c d; D 1; I 1 e f":   "D 1; I 1|e|f",
		"M 1 : 2 x y; M 2 : 3 x y; M 3 : 1 x y": "D 1; I 1|x|y",
	} {
		t.Run(lines, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, want, planned(t, planTable(canonExact), false, lines))
		})
	}
}

func TestKeysAreMergedByValue(t *testing.T) {
	t.Parallel()
	require.Equal(t, "U[1 2] 1.0|z|y", planned(t, planTable(canonNumeric), false, "U 1.0 x y; U 1.00 z -; U 1 z -"))
	require.Equal(t, "U[1] 1.0|z; U[1 2] 10|x|y", planned(t, planTable(canonNumeric), false, "U 10 x y; U 1.0 z -"))
	require.Equal(t, "U[1 2] 1.0|x|y; U[1] 1.00|z", planned(t, planTable(canonNone), false, "U 1.0 x y; U 1.00 z -"), "no order is lost")
	require.Equal(t, "I 1,2|x,x|y,y; D 1; I 1|x|y", planned(t, planTable(canonNone), false, "I 1 x y; I 2 x y; D 1; I 1 x y"))
}

func TestByRowKeepsTheOrder(t *testing.T) {
	t.Parallel()
	require.Equal(t, "I 1|x|y; U[1] 1|z; D 2; D 1; I 4|a|b; U[0 2] 4|5|c",
		planned(t, planTable(canonExact), true, "I 1 x y; U 1 z -; D 2; M 1 : 4 a b; M 4 : 5 - c"))
}

func TestAMovedKeyIsTheNewName(t *testing.T) {
	t.Parallel()
	c := changesOf("M 1 : 2 - y")[0]
	o, err := opOf(&c, planTable(canonExact), nil)
	require.NoError(t, err)
	require.Equal(t, opMove, o.kind)
	require.Equal(t, "id=1", o.row())
	require.False(t, o.complete(), "NULL outside of the key of a K tuple is no value")
}

func TestAChangeThatNamesNoRowIsRefused(t *testing.T) {
	t.Parallel()
	c := stream.Change{Kind: stream.KindUpdate, NewTuple: vals("- x y")}
	_, err := opOf(&c, planTable(canonExact), nil)
	var drift *DriftError
	require.ErrorAs(t, err, &drift)
	c = stream.Change{Kind: stream.KindInsert, NewTuple: []stream.Value{{Kind: stream.Binary}, {}, {}}}
	_, err = opOf(&c, planTable(canonExact), nil)
	require.ErrorContains(t, err, "binary")
}
