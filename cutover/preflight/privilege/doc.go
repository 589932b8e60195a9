// Package privilege has the checks of what the roles of --source and --target may do, and of the
// roles, settings and objects that the role of --target would have to make: tables, sequences and
// schemas, policies that hide rows, grantees, settings of roles, and what only a superuser makes.
//
// Each check is a function over inquiry.Pair that reads the catalogs and changes nothing. Rights
// are asked of the server for the role of the session, by membership too, and are not worked out
// from access lists. The roles that applications log in with are those of package loginrole.
package privilege
