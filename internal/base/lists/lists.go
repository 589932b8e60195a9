// Package lists makes one list, or a set, of another, and adds to lists and maps.
//
// A list of nothing is nil, as one that append has not touched: whether it is written as null to
// JSON or to SQL is the caller's to decide.
package lists

import "slices"

// Map returns what f makes of each element.
func Map[T, U any](in []T, f func(T) U) []U {
	if len(in) == 0 {
		return nil
	}
	out := make([]U, len(in))
	for i, x := range in {
		out[i] = f(x)
	}
	return out
}

// Filter returns the elements that keep holds for, in a list of its own.
func Filter[T any](in []T, keep func(T) bool) []T {
	var out []T
	for _, x := range in {
		if keep(x) {
			out = append(out, x)
		}
	}
	return out
}

// Pick returns what pick makes of each element that it takes.
func Pick[T, U any](in []T, pick func(T) (made U, takes bool)) []U {
	var out []U
	for _, x := range in {
		if made, takes := pick(x); takes {
			out = append(out, made)
		}
	}
	return out
}

// AddNew appends those of more that the list lacks, each once.
func AddNew[T comparable](list []T, more ...T) []T {
	for _, x := range more {
		if !slices.Contains(list, x) {
			list = append(list, x)
		}
	}
	return list
}

// Put sets the value of a key in a map that is made where it is nil.
func Put[K comparable, V any](in *map[K]V, key K, value V) {
	if *in == nil {
		*in = map[K]V{}
	}
	(*in)[key] = value
}

// Find returns the first element that is holds for, and whether there is one.
func Find[T any](in []T, is func(T) bool) (found T, ok bool) {
	for _, x := range in {
		if is(x) {
			return x, true
		}
	}
	return found, false
}

// Set returns the elements as keys. It is never nil.
func Set[T comparable](in []T) map[T]bool {
	return SetOf(in, func(x T) T { return x })
}

// SetOf returns what key makes of each element as keys. It is never nil.
func SetOf[T any, K comparable](in []T, key func(T) K) map[K]bool {
	out := make(map[K]bool, len(in))
	for _, x := range in {
		out[key(x)] = true
	}
	return out
}

// By returns the elements by what key makes of each. It is never nil.
func By[T any, K comparable](in []T, key func(T) K) map[K]T {
	out := make(map[K]T, len(in))
	for _, x := range in {
		out[key(x)] = x
	}
	return out
}

// NotNil returns the list, or an empty one in the place of nil.
func NotNil[T any](in []T) []T {
	if in == nil {
		return []T{}
	}
	return in
}
