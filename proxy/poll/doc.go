// Package poll serves many sockets without a goroutine for each: readiness, reads and writes that
// do not wait, and the connection below TLS on which such steps are possible. It knows no protocol.
//
// # The engine
//
// An Engine is one epoll instance and a few goroutines, its workers. An owner of two sockets
// (Turner) is added with both, and is called when one of them has something to read. It reads once,
// writes once, and must not wait; when it would have to, it is removed and served by goroutines. A
// key is used once, so that a late event finds no owner.
//
// All workers take from the same queue, a few events at a time. One worker waits for events; the
// others sleep until a worker has taken as many as it may. If the kernel gives the core of a worker
// to another process, the workers that are awake serve all events but those that it has taken; with
// no other one awake, everything waits.
//
// Events are edge-triggered (epoll(7)): each time something arrives on a socket, that is reported
// once and to one worker. What a turn leaves in the socket is reported only if the owner asks for it
// (Engine.Again), which it does unless a read has found the socket empty. One turn of an owner runs
// at a time; what arrives meanwhile is served after it.
//
// # Reads and writes
//
// A socket stays as the runtime's network poller made it: non-blocking, and known to that poller.
// ReadNow and WriteNow go around it and do not tell the scheduler, so they must not block, and do
// not. A Reader has a buffer only while there are bytes in it, so an idle session pins none.
package poll
