package arch

import (
	"fmt"
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// telling are the packages that tell an operator why something is refused, or what to
// look at, under a code: findings, blockers and warnings.
var telling = []string{
	"cutover/preflight/database", "cutover/preflight/expression", "cutover/preflight/extension", "cutover/preflight/loginrole", "cutover/preflight/privilege", "cutover/preflight/server",
	"internal/app/daemon", "internal/app/ports", "internal/app/compare", "internal/app/migration", "internal/app/definitions", "internal/app/matviews", "internal/app/check", "internal/app/oneshot", "internal/app/watch", "replicate/slot",
}

// code is what a code looks like; one that ends with an underscore is completed by the
// program.
var code = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*_?$`)

// Codes lists the codes that the program tells, each with a place that does.
func (t *Tree) Codes() map[string]string {
	found := map[string]string{}
	for _, dir := range telling {
		var files []*File
		for _, f := range t.Files {
			if f.Dir == dir && !f.Test {
				files = append(files, f)
			}
		}
		takes := codeParameters(files)
		for _, f := range files {
			note := func(e ast.Expr) {
				if c, ok := codeOf(e); ok && found[c] == "" {
					found[c] = fmt.Sprintf("%s:%d", f.Path, f.line(e))
				}
			}
			ast.Inspect(f.AST, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.KeyValueExpr:
					if id, ok := n.Key.(*ast.Ident); ok && id.Name == "Code" {
						note(n.Value)
					}
				case *ast.AssignStmt:
					for i, left := range n.Lhs {
						if f, ok := left.(*ast.SelectorExpr); ok && f.Sel.Name == "Code" && len(n.Rhs) == len(n.Lhs) {
							note(n.Rhs[i])
						}
					}
				case *ast.CallExpr:
					for _, at := range takes[callee(n)] {
						if at < len(n.Args) {
							note(n.Args[at])
						}
					}
				}
				return true
			})
		}
	}
	return found
}

// codeOf reads a code from a constant, or the beginning of one from a sum.
func codeOf(e ast.Expr) (string, bool) {
	if sum, ok := e.(*ast.BinaryExpr); ok && sum.Op == token.ADD {
		e = sum.X
	}
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(lit.Value)
	return s, err == nil && code.MatchString(s)
}

// codeParameters maps the functions of a package that take a parameter called code to its
// places.
func codeParameters(files []*File) map[string][]int {
	takes := map[string][]int{}
	learn := func(name string, f *ast.FuncType) {
		at := 0
		for _, p := range f.Params.List {
			for _, n := range p.Names {
				if n.Name == "code" && !slices.Contains(takes[name], at) {
					takes[name] = append(takes[name], at)
				}
				at++
			}
		}
	}
	for _, f := range files {
		ast.Inspect(f.AST, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				learn(n.Name.Name, n.Type)
			case *ast.AssignStmt:
				for i, right := range n.Rhs {
					lit, ok := right.(*ast.FuncLit)
					if name, named := n.Lhs[min(i, len(n.Lhs)-1)].(*ast.Ident); ok && named {
						learn(name.Name, lit.Type)
					}
				}
			}
			return true
		})
	}
	return takes
}

func callee(c *ast.CallExpr) string {
	switch f := c.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

// Shown is what the list of codes says of one: the tests, as "directory.Name", that see
// that its reason is true, that it is told once, and that its remedy, typed as it is
// printed, removes it. "-" stands for a test that is missing, and "=" as a remedy for one
// that no test can type (a bigger disk, another server), with a Why.
type Shown struct{ Reason, Once, Remedy, Why string }

// ParseShown reads a list of codes: a line for each, with four words, and after " # " why
// no test types its remedy if that is "=".
func ParseShown(text string) (map[string]Shown, error) {
	list := map[string]Shown{}
	for i, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		line, why, _ := strings.Cut(line, " # ")
		w := strings.Fields(line)
		if why = strings.TrimSpace(why); len(w) != 4 {
			return nil, fmt.Errorf("line %d: want a code and three tests", i+1)
		}
		if (w[3] == "=") != (why != "") {
			return nil, fmt.Errorf("line %d: want \" # \" and why nobody can type the remedy of %s where it is \"=\", and only there", i+1, w[0])
		}
		if _, ok := list[w[0]]; ok {
			return nil, fmt.Errorf("line %d: %s stands twice", i+1, w[0])
		}
		list[w[0]] = Shown{w[1], w[2], w[3], why}
	}
	return list, nil
}

// How many codes may be without a test of their reason, of being told once, and of their
// remedy. These only ever fall: a code that is new has all three.
const (
	mostUnshown       = 0
	mostNotOnce       = 0
	mostWithoutRemedy = 0
)

// Unshown compares the codes of the program with the list, and the list with the tests.
func (t *Tree) Unshown(list map[string]Shown) []Violation {
	var found []Violation
	codes := t.Codes()
	for c, place := range codes {
		if _, ok := list[c]; !ok {
			found = append(found, Violation{"codes", place, 0, c + " is told, and the list of codes names no test that sees that it is true"})
		}
	}
	for c, s := range list {
		if codes[c] == "" {
			found = append(found, Violation{"codes", "the list of codes", 0, c + " is told by nobody"})
		}
		for _, test := range []string{s.Reason, s.Once, s.Remedy} {
			if test != "-" && !(test == "=" && test == s.Remedy) && !t.names(test, c) {
				found = append(found, Violation{"codes", "the list of codes", 0, c + ": there is no test " + test + " in a file that names the code"})
			}
		}
	}
	found = append(found, bare(list, mostUnshown, "sees that they are true", func(s Shown) string { return s.Reason })...)
	found = append(found, bare(list, mostNotOnce, "sees that they are told once", func(s Shown) string { return s.Once })...)
	found = append(found, bare(list, mostWithoutRemedy, "types their remedy", func(s Shown) string { return s.Remedy })...)
	slices.SortFunc(found, func(a, b Violation) int { return strings.Compare(a.Path+a.Detail, b.Path+b.Detail) })
	return found
}

// bare finds that more codes than most are without a test in a column of the list.
func bare(list map[string]Shown, most int, does string, column func(Shown) string) []Violation {
	var without []string
	for c, s := range list {
		if column(s) == "-" {
			without = append(without, c)
		}
	}
	if slices.Sort(without); len(without) <= most {
		return nil
	}
	return []Violation{{"codes", "the list of codes", 0, fmt.Sprintf("%d codes are without a test that %s, at most %d may: %s", len(without), does, most, strings.Join(without, ", "))}}
}

// names reports whether a test, as "directory.Name", is in a file in which the code stands.
func (t *Tree) names(test, c string) bool {
	at := strings.LastIndex(test, ".")
	for _, f := range t.Files {
		if at < 0 || !f.Test || f.Dir != test[:at] || !f.declares(test[at+1:]) {
			continue
		}
		said := false
		ast.Inspect(f.AST, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING && strings.Contains(lit.Value, c) {
				said = true
			}
			return !said
		})
		if said {
			return true
		}
	}
	return false
}

// declares reports whether a function of the name is in the file.
func (f *File) declares(name string) bool {
	return slices.ContainsFunc(f.AST.Decls, func(d ast.Decl) bool {
		fn, ok := d.(*ast.FuncDecl)
		return ok && fn.Recv == nil && fn.Name.Name == name
	})
}
