// Package arch holds the rules of the house as a checker, and its test runs
// the checker over the repository. A rule that only people know is broken
// within a month; these fail the build.
//
// # Rules
//
//	imports   cmd imports internal/app/cli only; internal/app stands above the domains
//	          proxy, replicate, schema and cutover, and internal/base below them; the
//	          domains never import one another (all may import schema/catalog), and
//	          of internal/base only what Shared lists; within a domain the rooms import what
//	          Below gives them; rooms of internal/app put them
//	          together, which stand in appRooms from the bottom up and import only
//	          those below themselves; internal/app/cli and internal/lab/demo reach the
//	          domains through these, but for cutover/preflight/answer, whose report is
//	          printed; nothing but tests, benchmarks and the demo command imports
//	          internal/lab
//	fenced    a module named in Fenced is imported by the packages listed there
//	          and by no other, tests included
//	testonly  production files import no test library and no test helper, which
//	          is a package whose name ends in "test", and call none of doors
//	exit      only main packages end the process
//	sleep     no time.Sleep: a test waits for the thing itself, or lets time
//	          pass inside testing/synctest; production code uses a timer that
//	          its context can end
//	name      no package is called util, common, types, models or the like
//	size      no file is over MaxLines, the median is at most MedianLines
//	files     a package has at most MaxFiles files, tests aside, and one that puts rooms
//	          together MaxFaceFiles
//	type      a type has at most MaxFields fields and MaxMethods methods
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
// type its remedy. Another goes by refusals.txt, which is the same for each text without a code
// by which a command, or an answer at the control socket, refuses something.
//
// Generated files and directories named testdata are left out. Each rule is
// proven able to fail by a test on fixture source.
package arch
