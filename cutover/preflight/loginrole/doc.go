// Package loginrole compares the roles that log in to the source with those that they are on the
// target: who could not log in there, would have other rights, or would be someone else to what the
// catalog says.
//
// Check asks it in a preflight, and Compare again while a run follows, since roles change. Both
// judge what the catalogs say, and the operator's word (inquiry.Logins): accepted rights make a
// warning of a blocker, and nothing makes it silent. No password and no value of a setting is read
// into a finding.
package loginrole
