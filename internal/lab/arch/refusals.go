package arch

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// refusing are the packages whose errors a command ends with, or an answer at the control
// socket is.
var refusing = []string{"internal/app/daemon", "internal/app/ports", "internal/app/logins", "internal/app/options", "internal/app/migration", "internal/app/definitions", "internal/app/matviews", "internal/app/check", "internal/app/oneshot", "internal/app/undo",
	"internal/app/dbconn", "internal/app/runs", "internal/app/watch", "internal/app/cli", "internal/app/control", "internal/base/journal"}

// Refusal is a text without a code by which an operator is refused something, as it stands in
// the source: with its verbs, and a remedy that stands apart after " | ".
type Refusal struct {
	Text  string
	Place string // where it is made first
}

var (
	verbs     = regexp.MustCompile(`%[-+#0-9.\[\]]*[a-zA-Z]`)
	saysMore  = regexp.MustCompile(`[:;] `)
	askedFor  = regexp.MustCompile(`^(--|(name|give|make|write|choose|start) )`)
	wordsOfIt = regexp.MustCompile(`[a-z]{2,}`)
)

// refuses reports whether a text of an error says more than what failed: something after a colon or
// a semicolon that is not the error of someone else.
func refuses(text string) bool {
	if askedFor.MatchString(text) && !strings.HasSuffix(text, ": %w") {
		return true
	}
	parts := saysMore.Split(verbs.ReplaceAllString(text, ""), -1)
	return slices.ContainsFunc(parts[1:], func(p string) bool { return len(wordsOfIt.FindAllString(p, -1)) >= 2 })
}

// returnsRemedy reports whether a function has a result called so: what it returns is told.
func returnsRemedy(f *ast.FuncDecl) bool {
	return f.Type.Results != nil && slices.ContainsFunc(f.Type.Results.List, func(r *ast.Field) bool {
		return slices.ContainsFunc(r.Names, func(n *ast.Ident) bool { return n.Name == "remedy" })
	})
}

// Refusals lists the texts by which an operator is refused something without a code.
func (t *Tree) Refusals() []Refusal {
	var found []Refusal
	for _, f := range t.Files {
		if !slices.Contains(refusing, f.Dir) || f.Test {
			continue
		}
		note := func(n ast.Node, text string) {
			if !strings.Contains(strings.ReplaceAll(text, " | ", ""), " ") || slices.ContainsFunc(found, func(r Refusal) bool { return r.Text == text }) {
				return
			}
			found = append(found, Refusal{text, fmt.Sprintf("%s:%d", f.Path, f.line(n))})
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Body == nil || !returnsRemedy(n) {
					break
				}
				ast.Inspect(n.Body, func(n ast.Node) bool {
					if r, ok := n.(*ast.ReturnStmt); ok {
						if text := told(r.Results...); strings.Contains(text, " ") && wordsOfIt.MatchString(strings.ReplaceAll(text, "err.Error()", "")) && strings.ContainsAny(text, ":;,") {
							note(r, text)
						}
					}
					return true
				})
			case *ast.CallExpr:
				switch name := callee(n); {
				case (name == "refused" || name == "Refused") && len(n.Args) == 2:
					note(n, told(n.Args...))
				case (name == "New" || name == "Errorf") && len(n.Args) > 0:
					if sel, ok := n.Fun.(*ast.SelectorExpr); !ok || !slices.Contains([]string{"errors", "fmt"}, told(sel.X)) {
						break
					}
					if text := said(n.Args[0]); refuses(text) {
						note(n, text)
					}
				}
			case *ast.CompositeLit:
				if !strings.HasSuffix(told(n.Type), "Error") {
					break
				}
				var message, remedy ast.Expr
				for _, e := range n.Elts {
					if kv, ok := e.(*ast.KeyValueExpr); ok {
						switch told(kv.Key) {
						case "Message":
							message = kv.Value
						case "Remedy":
							remedy = kv.Value
						}
					}
				}
				if remedy != nil {
					note(n, told(message, remedy))
				}
			}
			return true
		})
	}
	slices.SortFunc(found, func(a, b Refusal) int {
		return cmp.Or(strings.Compare(path.Dir(a.Place), path.Dir(b.Place)), strings.Compare(a.Text, b.Text))
	})
	return found
}

// told joins what is known of expressions: the texts in them, and the names of the rest.
func told(exprs ...ast.Expr) string {
	var parts []string
	for _, e := range exprs {
		switch e := e.(type) {
		case nil:
		case *ast.Ident:
			parts = append(parts, e.Name)
		case *ast.SelectorExpr:
			parts = append(parts, told(e.X)+"."+e.Sel.Name)
		case *ast.CallExpr:
			if text := append([]ast.Expr{nil}, e.Args...); callee(e) == "Sprintf" && len(e.Args) > 0 {
				parts = append(parts, said(text[1]))
			} else {
				parts = append(parts, told(e.Fun)+"()")
			}
		default:
			parts = append(parts, said(e))
		}
	}
	return strings.Join(parts, " | ")
}

// said is the text of a constant, or of a sum, in which what is no constant is "%s".
func said(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if s, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			return s
		}
	case *ast.BinaryExpr:
		if e.Op == token.ADD {
			return said(e.X) + said(e.Y)
		}
	case *ast.ParenExpr:
		return said(e.X)
	}
	return "%s"
}

// ParseRefusals reads a list of refusals: the text of each in a line, and after it an indented line with the
// three tests of Shown, and where one is "=", why after " # ".
func ParseRefusals(text string) (map[string]Shown, error) {
	list := map[string]Shown{}
	refusal := ""
	for i, line := range strings.Split(text, "\n") {
		tests, indented := strings.CutPrefix(line, "\t")
		switch {
		case strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#"):
			continue
		case !indented && refusal != "":
			return nil, fmt.Errorf("line %d: want the tests of %q", i+1, refusal)
		case !indented:
			refusal = line
			continue
		case refusal == "":
			return nil, fmt.Errorf("line %d: want a refusal before its tests", i+1)
		}
		tests, why, _ := strings.Cut(tests, " # ")
		w := strings.Fields(tests)
		if why = strings.TrimSpace(why); len(w) != 3 || slices.Contains(w, "=") != (why != "") {
			return nil, fmt.Errorf("line %d: want three tests, and \" # \" and why where one is \"=\", and only there", i+1)
		}
		if _, ok := list[refusal]; ok {
			return nil, fmt.Errorf("line %d: %q stands twice", i+1, refusal)
		}
		list[refusal], refusal = Shown{w[0], w[1], w[2], why}, ""
	}
	return list, nil
}

// How many refusals may be without a test of their reason, of being told once, and of their remedy. These only ever
// fall: one that is new has all three.
const (
	mostRefusalsUnshown       = 0
	mostRefusalsNotOnce       = 0
	mostRefusalsWithoutRemedy = 0
)

// UnshownRefusals compares the refusals of the program with the list, and the list with the tests.
func (t *Tree) UnshownRefusals(list map[string]Shown) []Violation {
	const place = "the list of refusals"
	var found []Violation
	told := map[string]bool{}
	for _, r := range t.Refusals() {
		told[r.Text] = true
		if _, ok := list[r.Text]; !ok {
			found = append(found, Violation{"refusals", r.Place, 0, "the list of refusals names no test that sees that this is true: " + r.Text})
		}
	}
	for text, s := range list {
		if !told[text] {
			found = append(found, Violation{"refusals", place, 0, "nobody is refused with: " + text})
		}
		for _, test := range []string{s.Reason, s.Once, s.Remedy} {
			if test != "-" && test != "=" && !t.quotes(test, text) {
				found = append(found, Violation{"refusals", place, 0, "there is no test " + test + " in a file with words of: " + text})
			}
		}
	}
	for _, b := range [][]Violation{
		bare(list, mostRefusalsUnshown, "sees that they are true", func(s Shown) string { return s.Reason }),
		bare(list, mostRefusalsNotOnce, "sees that they are told once", func(s Shown) string { return s.Once }),
		bare(list, mostRefusalsWithoutRemedy, "types their remedy", func(s Shown) string { return s.Remedy }),
	} {
		for _, v := range b {
			found = append(found, Violation{"refusals", place, 0, strings.Replace(v.Detail, " codes are", " refusals are", 1)})
		}
	}
	slices.SortFunc(found, func(a, b Violation) int { return strings.Compare(a.Path+a.Detail, b.Path+b.Detail) })
	return found
}

// fewestLetters is how many letters of a text, one after another, must be in a test to be taken for it.
const fewestLetters = 9

// quotes reports whether a test, as "directory.Name", is in a file that has words of the text.
func (t *Tree) quotes(test, text string) bool {
	at := strings.LastIndex(test, ".")
	fixed := verbs.Split(strings.ReplaceAll(text, " | ", "%v"), -1)
	verbatim := slices.ContainsFunc(fixed, func(part string) bool { return len(part) >= fewestLetters })
	for _, f := range t.Files {
		if at < 0 || !f.Test || f.Dir != test[:at] || !f.declares(test[at+1:]) {
			continue
		}
		said := !verbatim // a text of verbs alone is in no test
		ast.Inspect(f.AST, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING || said {
				return !said
			}
			words, err := strconv.Unquote(lit.Value)
			said = err == nil && slices.ContainsFunc(fixed, func(part string) bool {
				for i := 0; i+fewestLetters <= len(part); i++ {
					if strings.Contains(words, part[i:i+fewestLetters]) {
						return true
					}
				}
				return false
			})
			return !said
		})
		if said {
			return true
		}
	}
	return false
}
