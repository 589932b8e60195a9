// Package wiretest writes the messages that only a client or a server in a test says. The proxy
// forwards them and makes none itself.
package wiretest
