// Package poll serves many sockets without a goroutine for each: readiness, reads and writes that
// do not wait, and the connection below TLS that makes such steps. It knows no protocol.
//
// # The engine
//
// An Engine is one epoll instance and one goroutine. Anyone who has two sockets (Turner) is added
// with both, and is called when one of them has something to read. It reads once, writes once, and
// must not wait; what would wait is a matter for goroutines, and for that it is removed. A key is
// used once in an engine, so that a late event finds nobody. Engines shares sockets out: few
// sessions keep together, more fill up the others.
//
// # Reads and writes
//
// A socket stays as the runtime's network poller made it: non-blocking, and known to that poller.
// ReadNow and WriteNow go around it and do not tell the scheduler, so that they must not block, and
// do not. A Reader has a buffer only while there are bytes in it, so an idle session pins none.
package poll
