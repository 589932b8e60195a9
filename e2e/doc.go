// Package e2e tests the whole program: the binary of `crossfade run` as a
// process of its own, between real PostgreSQL clusters, with applications that
// write and read through it and keep a ledger of what was acknowledged.
//
// The binary is built once for the tests, with the build tag failpoint, so that
// it can be killed at a point by name.
package e2e
