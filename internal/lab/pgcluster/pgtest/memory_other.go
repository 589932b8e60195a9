//go:build !linux

package pgtest

// clusterDir returns "": clusters are made in the system's temporary directory.
func clusterDir() string { return "" }
