// Package scram is SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677), both ends, as
// PostgreSQL speaks it.
//
//	client                                server
//	First     n,,n=,r=<cnonce>         →
//	          r=<cnonce+snonce>,s=,i=  ←  First
//	Continue  c=,r=,p=<proof>          →
//	          v=<signature>            ←  Final
//	Verify
//
// What differs from the RFC, as in PostgreSQL: the user name in the first message is ignored (the
// start-up packet has it), authorisation identities are refused, and a password that SASLprep
// refuses is used as it is.
//
// Invariants:
//   - A server which offered -PLUS refuses a client that says "y" (it could bind, but saw no
//     offer): someone removed the offer.
//   - An unknown user gets a whole exchange with a salt that stays the same for that user, and then
//     the same refusal as a wrong password.
//   - A client accepts the server only after Verify. It refuses iteration counts above
//     MaxIterations before it computes.
//   - Proofs and signatures are compared in constant time. No secret is part of an error.
//   - PBKDF2 runs only in a Deriver, which bounds how many run at once and serves its callers in
//     turn.
//   - What a proof reveals (Proven) is good for the identical verifier only, and is kept in memory
//     only.
package scram
