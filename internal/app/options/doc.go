// Package options says what a run, or a one-shot copy, is asked to do, and refuses options that contradict each other.
package options
