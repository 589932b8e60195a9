// Package replicate is the data plane: it copies the rows of one database to another and keeps them
// equal.
//
// Its packages know nothing of the proxy, of schemas beyond the tables they write, and of cutovers;
// and they work in either direction.
package replicate
