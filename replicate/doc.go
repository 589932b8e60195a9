// Package replicate is the data plane: it brings the rows of one database to
// another and keeps them the same. Its packages know nothing of the proxy, of
// schemas beyond the tables they write, and of cutovers; and they are neutral as
// to direction.
package replicate
