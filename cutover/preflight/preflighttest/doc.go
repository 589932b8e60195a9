// Package preflighttest gives tests of a preflight a source and a target on real servers, roles on
// both sides, and findings reduced to their codes. Production code never imports it.
package preflighttest
