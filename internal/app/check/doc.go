// Package check asks both databases, before anything is made, whether a run or a copy can move the one to the other. It
// changes nothing.
package check
