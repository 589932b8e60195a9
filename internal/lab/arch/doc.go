// Package arch checks the rules that CONTRIBUTING.md states, and its test runs the checker over the
// repository. A rule that is only written down is broken within a month; these fail the build.
//
// # Rules
//
//	imports   cmd imports internal/app/cli only; internal/app is above the domains
//	          proxy, replicate, schema and cutover, and internal/base below them; the
//	          domains never import one another (all may import schema/catalog), and
//	          of internal/base only what Shared lists; within a domain packages import what
//	          Below allows; packages of internal/app combine the domains, are listed in
//	          appPackages from the bottom up, and import only those below them;
//	          internal/app/cli and internal/lab/demo use the domains through these,
//	          except for cutover/preflight/answer, whose report is printed; only tests,
//	          benchmarks and the demo command import internal/lab
//	fenced    a module named in Fenced is imported by the packages listed there
//	          and by no other, tests included
//	testonly  production files import no test library and no test helper, which
//	          is a package whose name ends in "test", and call none of doors
//	exit      only main packages end the process
//	sleep     no time.Sleep: a test waits for the event itself, or lets time
//	          pass inside testing/synctest; production code uses a timer that
//	          its context can end
//	name      no package is called util, common, types, models or the like
//	size      no file is over MaxLines, the median is at most MedianLines
//	files     a package has at most MaxFiles files, tests aside, and one that combines
//	          domains MaxFaceFiles
//	type      a type has at most MaxFields fields and MaxMethods methods
//	doc       each package has a package comment; a package that states a
//	          protocol or an invariant (Protocols) has it in doc.go
//	leak      each package with tests has a TestMain that checks for leaked
//	          goroutines
//	nulllist  SQL that leaves out what a list names treats a NULL list, which a nil
//	          slice becomes, as an empty one
//	component only obs.Component names the part of the program that a log line comes
//	          from: another way would write the key twice
//
// A separate test uses codes.txt: it lists each code that an operator may see (findings, blockers,
// warnings) with the tests that produce its cause, see it reported once, and type its remedy.
// Another uses refusals.txt, which is the same for each text without a code with which a command,
// or an answer at the control socket, refuses something.
//
// Generated files and directories named testdata are left out. Each rule is
// proven able to fail by a test on fixture source.
package arch
