// Package loginrole compares the roles that log in to the source with those that they become on the
// target: which could not log in there, would have other rights, or would be another role to the
// catalog.
//
// Check does this in a preflight, and Compare again while a run follows, since roles change. Both
// judge the catalogs and the operator's options (inquiry.Logins): accepted rights turn a blocker
// into a warning, but do not remove it. No password and no value of a setting becomes part
// of a finding.
package loginrole
