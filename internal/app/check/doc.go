// Package check asks both databases, before anything is made, whether a run or a copy can move one
// to the other. It changes nothing.
package check
