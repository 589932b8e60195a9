// Package poll serves many sockets without a goroutine for each: readiness, reads and writes that
// do not wait, and the connection below TLS on which such steps are possible. It knows no protocol.
//
// # The engine
//
// An Engine is one epoll instance and one goroutine. An owner of two sockets (Turner) is added with
// both, and is called when one of them has something to read. It reads once, writes once, and must
// not wait; when it would have to, it is removed and served by goroutines. A key is used once in an
// engine, so that a late event finds no owner. Engines distributes the sockets: a few sessions
// share one engine, more fill up the others.
//
// # Reads and writes
//
// A socket stays as the runtime's network poller made it: non-blocking, and known to that poller.
// ReadNow and WriteNow go around it and do not tell the scheduler, so they must not block, and do
// not. A Reader has a buffer only while there are bytes in it, so an idle session pins none.
package poll
