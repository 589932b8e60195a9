// Package tlsconf turns sslmode and certificates into TLS configurations.
//
// Towards servers a Client carries libpq's sslmode. Only Allow and Prefer may ever continue without
// TLS; Require and above never do, whatever the peer answers. The exchange of SSLRequest itself
// belongs to the dialler.
//
// Towards clients a Server holds one certificate. It is read again when the modification time of
// one of its files changes, and a file that cannot be used leaves the certificate that was there in
// force. Each handshake reports the channel-binding hash of the very certificate that it showed.
// With an authority for clients it asks for their certificates; a certificate that does not verify
// ends the handshake. CommonName is that of a verified certificate only.
//
// Binding is tls-server-end-point of RFC 5929: the hash of the certificate with the hash function
// of its own signature, SHA-256 in place of MD5 and SHA-1. A signature without a hash function
// (Ed25519) has no binding, as in PostgreSQL.
package tlsconf
