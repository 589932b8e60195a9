package arch

import (
	"fmt"
	"go/ast"
	"maps"
	"slices"
)

const (
	// MaxFields is how many fields a struct type may have. Those of a struct that stands in it
	// under a name of its own count there, and those of one that has none count with it.
	MaxFields = 25
	// MaxMethods is how many methods a type may have, those that it embeds aside.
	MaxMethods = 30
)

// typeSize is how large a type is.
type typeSize struct {
	file            *File
	line            int
	fields, methods int
}

// checkTypes bounds the fields and methods of each type, generated files and tests aside.
func checkTypes(t *Tree) []Violation {
	var found []Violation
	sizes := map[string]*typeSize{}
	at := func(name string) *typeSize {
		if sizes[name] == nil {
			sizes[name] = &typeSize{}
		}
		return sizes[name]
	}
	for _, f := range t.Files {
		if f.Test || f.Generated {
			continue
		}
		for _, d := range f.AST.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if name := receiver(d); name != "" {
					at(f.Dir+"."+name).methods++
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if s, ok := s.(*ast.TypeSpec); ok {
						one := at(f.Dir + "." + s.Name.Name)
						one.file, one.line = f, f.line(s)
						one.fields = max(one.fields, fieldsOf(s.Type)) // the same name for another system
					}
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sizes)) {
		s := sizes[name]
		if s.file == nil {
			continue
		}
		bad := func(n, most int, what string) {
			if n > most {
				found = append(found, Violation{"type", s.file.Path, s.line, fmt.Sprintf("%s has %d %s, at most %d: it is several things", name, n, what, most)})
			}
		}
		bad(s.fields, MaxFields, "fields")
		bad(s.methods, MaxMethods, "methods")
	}
	return found
}

// receiver returns the name of the type that a method belongs to, "" for a function.
func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return ""
	}
	e := d.Recv.List[0].Type
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

// fieldsOf counts the fields of a struct, with those of structs without a name within it.
func fieldsOf(e ast.Expr) int {
	s, ok := e.(*ast.StructType)
	if !ok {
		return 0
	}
	n := 0
	for _, f := range s.Fields.List {
		each := max(1, fieldsOf(f.Type))
		n += each * max(1, len(f.Names))
	}
	return n
}
