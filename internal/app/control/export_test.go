package control

import "net"

// HTTPAddr is the address of the read-only listener, of a server that has one.
func (s *Server) HTTPAddr() net.Addr { return s.tcp.Addr() }
