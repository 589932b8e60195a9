// Package finding has what the schema plane tells of an object: a Finding says that it could not be
// made as it stands in the archive, a Change that the source has it otherwise by now.
//
// The value of a setting is in neither, since it may be a secret.
package finding
