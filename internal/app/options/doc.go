// Package options holds the options of a run or a one-shot copy, and refuses options that
// contradict each other.
package options
