// Package finding holds what the schema plane reports about an object: a Finding says that it could
// not be made as it is in the archive, a Change that its definition on the source differs by now.
//
// The value of a setting is in neither, since it may be a secret.
package finding
