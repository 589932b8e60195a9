package pg

import (
	"fmt"
	"slices"
	"strings"
)

// authMethods are what libpq's require_auth may name.
var authMethods = []string{"password", "md5", "gss", "sspi", "scram-sha-256", "oauth", "none"}

// checkAuthMethods refuses what libpq refuses of a require_auth: unknown names, names given
// twice, and lists of which some begin with "!" and some do not.
func checkAuthMethods(v string) error {
	seen := map[string]bool{}
	first := ""
	for _, m := range strings.Split(v, ",") {
		m = strings.TrimSpace(m)
		name, not := strings.CutPrefix(m, "!")
		if err := oneOf(authMethods...)(name); err != nil {
			return err
		}
		switch {
		case first == "":
			first = m
		case strings.HasPrefix(first, "!") != not:
			return fmt.Errorf("%s and %s do not go together: begin all of them with \"!\", or none", first, m)
		}
		if seen[name] {
			return fmt.Errorf("%s is given twice", name)
		}
		seen[name] = true
	}
	return nil
}

// AllowsAuth reports whether the connection string lets a server ask for a method of
// authentication, by libpq's names: password, md5, scram-sha-256, or none if the server asks for
// nothing.
func (d DSN) AllowsAuth(method string) bool {
	v := d.cfg.RequireAuth
	if v == "" {
		return true
	}
	var named []string
	not := false
	for _, m := range strings.Split(v, ",") {
		name, n := strings.CutPrefix(strings.TrimSpace(m), "!")
		named, not = append(named, name), n
	}
	return slices.Contains(named, method) != not
}
