package arch

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// File is one Go file of the repository.
type File struct {
	Path      string // relative to the root, with slashes
	Dir       string // its directory, "." for the root
	Test      bool   // its name ends in _test.go
	Generated bool   // it says so, as cmd/go understands it
	Lines     int
	AST       *ast.File

	fset *token.FileSet
}

// Imports calls yield for each import path with its line.
func (f *File) Imports(yield func(importPath string, line int)) {
	for _, spec := range f.AST.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			yield(p, f.line(spec))
		}
	}
}

func (f *File) line(n ast.Node) int { return f.fset.Position(n.Pos()).Line }

// importName returns the name under which the file knows importPath, or "".
func (f *File) importName(importPath string) string {
	for _, spec := range f.AST.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err != nil || p != importPath {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path.Base(importPath)
	}
	return ""
}

// Tree is all Go files of a module.
type Tree struct {
	Module string
	Files  []*File // sorted by path
}

// Load parses every Go file under fsys, except in directories that are no part of
// the module for the go command: testdata, vendor, names that begin with "." or
// "_", and modules of their own.
func Load(fsys fs.FS, module string) (*Tree, error) {
	t := &Tree{Module: module}
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if p == "." {
				return nil
			}
			if _, err := fs.Stat(fsys, path.Join(p, "go.mod")); err == nil || ignored(d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(p) != ".go" || ignored(d.Name()) {
			return nil
		}
		f, err := load(fsys, p)
		if err != nil {
			return err
		}
		t.Files = append(t.Files, f)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("load tree: %w", err)
	}
	slices.SortFunc(t.Files, func(a, b *File) int { return strings.Compare(a.Path, b.Path) })
	return t, nil
}

func ignored(name string) bool {
	return name == "testdata" || name == "vendor" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")
}

func load(fsys fs.FS, p string) (*File, error) {
	src, err := fs.ReadFile(fsys, p)
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	parsed, err := parser.ParseFile(fset, p, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	return &File{
		Path:      p,
		Dir:       path.Dir(p),
		Test:      strings.HasSuffix(p, "_test.go"),
		Generated: ast.IsGenerated(parsed),
		Lines:     bytes.Count(src, []byte("\n")),
		AST:       parsed,
		fset:      fset,
	}, nil
}

// dirs returns the files of each directory.
func (t *Tree) dirs() map[string][]*File {
	m := map[string][]*File{}
	for _, f := range t.Files {
		m[f.Dir] = append(m[f.Dir], f)
	}
	return m
}

// within tells whether dir is root or below it.
func within(dir, root string) bool {
	return dir == root || strings.HasPrefix(dir, root+"/")
}
