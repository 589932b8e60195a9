// Package poll serves many sockets without a goroutine for each: readiness, reads and writes that
// do not wait, and the connection below TLS on which such steps are possible. It knows no protocol.
//
// # The engine
//
// An Engine is one epoll instance, the queue, and a few goroutines that take events from it, the
// workers. An owner of two sockets (Turner) is added with both, and is called when one of them has
// something to read. It reads once, writes once, and must not wait; when it would have to, it is
// removed and served by goroutines. Only one worker calls an owner at a time. A key is used once in
// an engine, so that a late event finds no owner.
//
// A worker takes at most four events at a time. If the kernel gives its core to another process,
// these four wait, and the other workers serve the rest. One worker waits for events; the others
// sleep until it has taken as many as it may, so that a few sessions wake no second thread.
//
// # Reads and writes
//
// A socket stays as the runtime's network poller made it: non-blocking, and known to that poller.
// ReadNow and WriteNow go around it and do not tell the scheduler, so they must not block, and do
// not. A Reader has a buffer only while there are bytes in it, so an idle session pins none.
package poll
