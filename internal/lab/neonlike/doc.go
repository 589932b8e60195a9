// Package neonlike makes a plain PostgreSQL cluster behave towards its clients
// as a Neon compute behind Neon's proxy does, so that the demo and the tests
// need no account.
//
// The compute (Config, Prepare): the settings that a compute starts with, the
// bootstrap superuser cloud_admin that nobody else may use, the role
// neon_superuser with what it may and may not do, a role as the console makes
// it, and a database that this role owns.
//
// The front (Front, Endpoint) stands before one or several computes:
//
//	TLS 1.2+, asked for or direct, ALPN postgresql → server name, option or password name the endpoint →
//	SCRAM-SHA-256(-PLUS) by the compute's own secret → the compute is woken → few start-up parameters go on → frames
//
// It reaches a compute through the socket in the cluster's directory, which
// only the servers' user and root may enter, and which asks for no password.
//
// # Invariants
//
//   - The role that Prepare hands out is no superuser and cannot become one. It
//     may not set session_replication_role, use replication origins, disable
//     the triggers of foreign keys or read the server's files.
//   - It has REPLICATION and BYPASSRLS as attributes of its own, which
//     membership in neon_superuser would not give it.
//   - Detection by the setting neon.endpoint_id works as on Neon.
//   - Nothing but TLS gets past the first packet. A client without TLS, an
//     endpoint or the password is refused before its compute is touched.
//   - Of the start-up parameters only user, database, application_name,
//     replication and options are passed on, and client_encoding is UTF8, unless
//     the options hold neon_proxy_params_compat:true.
//   - Whatever fails up to ReadyForQuery, errors of the compute included, is an
//     ERROR with SQLSTATE XX000 and a message, and without further fields.
//   - The pid and the key that a client gets are random. They cancel, and tell
//     nothing of the backend.
//   - A compute that sleeps has no sessions and no rows in unlogged tables; the
//     next login wakes it. One that crashed is started again; one that its
//     owner stopped is not.
//
// # Where it differs
//
// Neon lets members of neon_superuser do a few things that plain PostgreSQL
// refuses: publications FOR ALL TABLES, event triggers, and extensions of others.
// A test must not take these for Neon's behaviour. Of PostgreSQL's own
// extensions those that Neon trusts are trusted (trust), where the programs
// are laid out as Debian does it.
//
// What Neon refuses and PostgreSQL does not (tablespaces, hashed or weak
// passwords, a project that is full) the front refuses by the text of the
// statement: what a function or a DO block executes is not seen, and a full
// project fails every statement that may need room, not only the one that
// finds none. The pooler's host refuses options as Neon does, but leads to
// sessions of the compute's own.
package neonlike
