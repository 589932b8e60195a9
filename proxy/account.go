package proxy

import (
	"fmt"

	"crossfade/proxy/auth"
	"crossfade/proxy/backend"
)

// account is a role on one side, and what logs it in there.
type account struct {
	name     string
	password string
	proof    auth.Proof // where there is no password
}

// account returns what logs a client's role in on this side: what the configuration knows, or the proof that the client
// itself has given. The error is a *CredentialsError.
func (e *Endpoint) account(user string, proof auth.Proof) (account, error) {
	if name, password, ok := e.Credentials(user); ok {
		return account{name: name, password: password}, nil
	}
	if e.Proofs && !proof.IsZero() {
		return account{name: user, proof: proof}, nil
	}
	return account{}, &CredentialsError{User: user, Endpoint: e.Name}
}

// on fills the account into what is dialled.
func (a account) on(c backend.Config) backend.Config {
	c.User, c.Password, c.Proof = a.name, a.password, a.proof
	return c
}

// CredentialsError says that a role has proved who it is, and cannot be logged in on a side: nothing is known there but
// what its password is checked with.
type CredentialsError struct {
	User, Endpoint string
}

func (e *CredentialsError) Error() string {
	return fmt.Sprintf("role %q has no credentials at the %s: its password there is not known; add the role to the users file, or map it to another one with --map-role", e.User, e.Endpoint)
}
