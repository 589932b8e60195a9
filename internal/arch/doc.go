// Package arch holds the rules of the house as a checker, and its test runs
// the checker over the repository. A rule that only people know is broken
// within a month; these fail the build.
//
// # Rules
//
//	imports   cmd imports internal/cli only; internal/cli, and internal/demo
//	          beside it, import no domain but cutover/preflight, whose report is
//	          printed; the domains proxy, replicate, schema and cutover never
//	          import one another (all may import schema/catalog) and of internal/
//	          only what Shared lists; nothing under them imports internal/cli or
//	          internal/daemon
//	fenced    a module named in Fenced is imported by the packages listed there
//	          and by no other, tests included
//	testonly  production files import no test library and no test helper, which
//	          is a package whose name ends in "test"
//	exit      only main packages end the process
//	sleep     no time.Sleep: a test waits for the thing itself, or lets time
//	          pass inside testing/synctest; production code uses a timer that
//	          its context can end
//	name      no package is called util, common, types, models or the like
//	size      no file is over MaxLines, the median is at most MedianLines
//	doc       each package has a package comment; a package that states a
//	          protocol or an invariant (Protocols) has it in doc.go
//	leak      each package with tests has a TestMain that checks for leaked
//	          goroutines
//	nulllist  SQL that leaves out what a list names takes a list that is NULL, as
//	          a nil slice is, for one that is empty
//	component only obs.Component names the part of the program that a log line comes
//	          from: another way would write the key twice
//
// A test of its own goes by codes.txt: each code that an operator is told (findings, blockers,
// warnings) stands there with the tests that see its reason true, see it told once, and
// type its remedy.
//
// Generated files and directories named testdata are left out. Each rule is
// proven able to fail by a test on fixture source.
package arch
