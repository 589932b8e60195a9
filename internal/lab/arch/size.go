package arch

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

const (
	// MaxLines is how many lines a file may have: a longer one is hard to find one's way in, and
	// a sign that it holds more than one noun.
	MaxLines = 700
	// MedianLines is the longest that the median of all files may be.
	MedianLines = 150
	// MaxFiles is how many files a package may have, tests aside: more should be several packages.
	MaxFiles = 25
)

// MaxFaceFiles is how many a package may have that combines domains: with more it does work of its own.
const MaxFaceFiles = 15

// faces are those packages.
var faces = []string{"proxy", "internal/app/daemon"}

// checkFiles bounds the number of files of each package.
func checkFiles(t *Tree) []Violation {
	var found []Violation
	for dir, files := range t.dirs() {
		n := 0
		for _, f := range files {
			if !f.Test {
				n++
			}
		}
		most := MaxFiles
		if slices.Contains(faces, dir) {
			most = MaxFaceFiles
		}
		if n > most {
			found = append(found, Violation{"files", dir, 0, fmt.Sprintf("%d files, at most %d: divide the package", n, most)})
		}
	}
	return found
}

// badNames say nothing about what a package holds.
var badNames = []string{"util", "utils", "common", "pkg", "types", "models", "helpers", "helper", "misc", "shared", "base"}

func checkName(t *Tree) []Violation {
	var found []Violation
	for dir, files := range t.dirs() {
		name := strings.TrimSuffix(files[0].AST.Name.Name, "_test")
		for _, n := range []string{path.Base(dir), name} {
			if slices.Contains(badNames, n) {
				found = append(found, Violation{"name", files[0].Path, 0, fmt.Sprintf("package called %s: name what it holds", n)})
				break
			}
		}
	}
	return found
}

func checkSize(t *Tree) []Violation {
	var found []Violation
	var sizes []int
	for _, f := range t.Files {
		if f.Generated {
			continue
		}
		sizes = append(sizes, f.Lines)
		if f.Lines > MaxLines {
			found = append(found, Violation{"size", f.Path, 0, fmt.Sprintf("%d lines, at most %d", f.Lines, MaxLines)})
		}
	}
	if m := median(sizes); m > MedianLines {
		found = append(found, Violation{"size", ".", 0, fmt.Sprintf("the median file has %d lines, at most %d", m, MedianLines)})
	}
	return found
}

func median(sizes []int) int {
	if len(sizes) == 0 {
		return 0
	}
	slices.Sort(sizes)
	return sizes[len(sizes)/2]
}
