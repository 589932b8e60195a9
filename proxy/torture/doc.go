// Package torture holds tests that try to break the proxy from outside: they speak
// the protocol byte by byte and know nothing of what is within. It has no code of its own.
//
// The measure is PostgreSQL itself. What a client of the proxy is sent, while its session is moved
// between two clusters, must be to the byte what a client without a proxy is sent; and a peer that
// breaks the protocol must meet the SQLSTATE that PostgreSQL has for it. One thing alone is made
// equal before streams are compared: the pid in a notification that a session has sent to itself.
package torture
