// Package history judges what clients saw against what a database holds.
//
// A history is the list of the operations of clients that ran while a database
// moved: what each did, when, with what outcome. Every transaction that writes
// also inserts one row into a ledger table, in the same transaction, with the
// client's number and a sequence number of the client's own: its token. The
// ledger's primary key is a random uuid, and the token is deliberately not
// unique there, so that an effect that was applied twice can be counted.
//
// Check reads the ledger of the side that is active in the end and proves, or
// refutes with examples:
//
//   - lost: each acknowledged transaction is there;
//   - doubled: no transaction is there more than once;
//   - phantom: no transaction that failed is there;
//   - unrecorded: nothing is there that no client sent;
//   - altered: each row says what its client was told (ids, server);
//   - disordered: each transaction saw every transaction that its own client
//     had been told of before;
//   - repeated id: no id that a sequence handed out was handed out twice, on
//     either side or across both;
//   - turned back: the answers came from one side, then from the other, with no
//     more changes of side than the run made;
//   - stale: no read missed what its client had written (the clients say so
//     themselves);
//   - disagreeing lists: every list that a transaction read is a prefix of the list of that key
//     in the end, and ends with the last value of the transaction that appended it;
//   - cycles: the order of the values in the lists, what the transactions read, and the order in
//     time fit a serial execution;
//   - not linearizable: the operations on each register fit an order in which each takes place at
//     one moment between its start and its end;
//   - unbalanced: in every snapshot that was read of a bank, and in the end, no money came or went,
//     and each balance in the end is what the transfers that are there explain;
//   - doubled, lost and so on are judged of values in lists, of transfers and of effects of
//     idempotency keys as well: a key has one effect if anybody was told that it is there, and at
//     most one in any case;
//   - un-observed: nothing that was seen, by a later transaction, by a read or as the answer that
//     a key is there already, is gone later, whatever its own client knows of it;
//   - the invariants of the application's data, each a query.
//
// A transaction whose outcome the client does not know may be there once or not
// at all, but consistently: once it was observed it is there. Ids of transactions that did not take place, failed ones and unknown ones
// that are not there, are not counted: PostgreSQL may hand them out again after a
// crash, since a sequence value that no commit has made durable is then lost.
package history
