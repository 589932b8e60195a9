// Package preflighttest gives tests of a preflight a source and a target on real servers, roles on
// both sides, and findings without their words. Production code never imports it.
package preflighttest
