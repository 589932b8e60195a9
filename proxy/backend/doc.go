// Package backend makes ready server connections: dial, TLS, start-up, authentication, until the
// first ReadyForQuery.
//
//	dial → [SSLRequest → 'S' or 'N'] → [TLS] → StartupMessage 3.0 → authentication → ParameterStatus…, BackendKeyData → ReadyForQuery
//
// Invariants:
//   - A server is as little trusted as a client: lengths, the number of messages and the bytes of a
//     log-in are bounded, and nothing that it sends can panic.
//   - The answer to SSLRequest is one byte, read alone: whatever follows it is read through TLS or
//     not at all.
//   - sslmode require and above never continue in plain text. Prefer does when the server declines,
//     Allow begins in plain text; both make their second attempt on a new connection when the
//     server refuses the first as such.
//   - A password in clear text is sent through TLS or a Unix socket only. After a SCRAM exchange
//     the log-in continues only if the server has proved that it knows the verifier.
//     channel_binding=require accepts nothing but SCRAM-SHA-256-PLUS.
//   - What was read after ReadyForQuery is kept in Leftover; no byte of the stream is lost or read
//     twice.
//   - Cancel connects to the address that this connection reached, through TLS if this connection
//     has TLS.
//   - No error quotes a password or a key. What a server says before TLS is not shown: anybody
//     could have said it.
package backend
