// Package control connects commands with the running daemon: HTTP over a Unix socket, both server
// and client, and the JSON that they exchange.
//
// # Paths
//
//	GET  /v1/healthz         Health, or an Error (503) when the migration has stopped, or the daemon cannot tell its status
//	GET  /v1/livez           an empty object while the process lives: what a supervisor that starts processes again should ask
//	GET  /v1/status          Status
//	GET  /v1/status/stream   Status as JSON lines: at once, every second, and on each change of state
//	GET  /v1/sessions        []Session
//	POST /v1/cutover         CutoverOptions to CutoverReport, when the cutover has ended; to CutoverLine as JSON
//	                         lines, with the steps as they happen, for a client that accepts application/x-ndjson
//	POST /v1/cutover/cancel  CancelOptions to the CutoverReport of the cutover that is withdrawn, when it has ended
//	GET  /v1/cutover         the CutoverReport of the last cutover that this daemon ran
//	POST /v1/verify          to VerifyReport, when the comparison has ended; to VerifyLine as JSON lines, with its
//	                         progress every second, for a client that accepts application/x-ndjson
//	POST /v1/verify/cancel   an empty object, when the comparison has stopped
//	GET  /v1/verify          the VerifyReport of the last comparison that was completed
//	POST /v1/finish          FinishOptions to FinishReport
//	GET  /v1/limits          Limits
//	POST /v1/limits          LimitsChange to Limits
//	GET  /metrics            Prometheus text
//
// An optional TCP listener serves the same except for sessions, cutover, verify, finish and limits: it only
// reads. It asks for no credentials.
//
// # Rules
//
//   - The JSON of Status, CutoverReport and Error is a contract: fields may be added, none is
//     renamed, removed or changed in its meaning.
//   - Every refusal is an Error with a code, what is wrong, and what to do. The client maps it to
//     the program's exit status (ExitCode).
//   - Operations (cutover, finish) run one at a time. A second one is refused with HTTP 409 and the
//     name of the running one. A cutover is withdrawn when the client that asked for it goes away:
//     it is undone, unless it may have been decided. A finish continues. Either way the report of a
//     cutover can still be read.
//   - A comparison is no operation: it runs beside everything else, and continues when the client
//     that asked for it goes away.
//   - The socket is private to the user (0600, set before it can be reached). A file that is not a
//     socket is never removed; a socket is replaced only when no process answers on it.
package control
