// Package auth proves who a client is: the server's side of authentication, between the start-up
// packet and the AuthenticationOk that it writes itself.
//
// What is known of a user decides the method: plain text or a SCRAM verifier → SCRAM-SHA-256, and
// -PLUS where the connection's certificate has a channel binding; an md5 hash → md5; Trust → none.
// A verified client certificate whose common name is the user's replaces the password; with
// CertificateOnly nothing else is accepted.
//
// Invariants:
//   - A user who does not exist gets the exchange of one who does, and the same refusal (28P01,
//     constant text).
//   - A password that has expired (VALID UNTIL) is refused like a wrong one, by the same exchange.
//     NOLOGIN (28000) is reported only to a client that has proved to be that user.
//   - A message of the client is read only up to MaxPassword and exactly: no byte after it is read.
//   - A Secret prints as [secret] with every verb, a Proof as [proof], and no error quotes one.
//   - Derivations run in one bounded Deriver; a plain-text secret is derived once, not once per
//     log-in.
//   - Everything that goes wrong on the client's side is a *wire.ServerError for the caller to
//     send.
package auth
