package side

import (
	"fmt"

	"crossfade/proxy/auth"
	"crossfade/proxy/backend"
)

// Account is a role on one side, and what logs it in there.
type Account struct {
	Name     string
	Password string
	proof    auth.Proof // where there is no password
}

// Account returns what logs a client's role in on this side: what the configuration knows, or the
// proof that the client itself has given. The error is a *CredentialsError.
func (e *Endpoint) Account(user string, proof auth.Proof) (Account, error) {
	if name, password, ok := e.Credentials(user); ok {
		return Account{Name: name, Password: password}, nil
	}
	if e.Proofs && !proof.IsZero() {
		return Account{Name: user, proof: proof}, nil
	}
	return Account{}, &CredentialsError{User: user, Endpoint: e.Name}
}

// on fills the account into what is dialled.
func (a Account) on(c backend.Config) backend.Config {
	c.User, c.Password, c.Proof = a.Name, a.Password, a.proof
	return c
}

// CredentialsError says that a role has proved who it is, and cannot be logged in on a side:
// nothing is known there but what its password is checked with.
type CredentialsError struct {
	User, Endpoint string
}

func (e *CredentialsError) Error() string {
	return fmt.Sprintf("role %q has no credentials at the %s: its password there is not known; add the role to the users file, or map it to another one with --map-role", e.User, e.Endpoint)
}
