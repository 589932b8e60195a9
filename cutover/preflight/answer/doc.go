// Package answer is what comes of a preflight: findings, the report that holds them, and how it is
// printed.
//
// A finding is something that was seen, and an Incomplete a question that was left without an
// answer: a report that has one of the latter is never ready. Codes and the fields of the JSON form
// are a contract, since scripts rely on them. Nothing here asks a database; anyone who prints or
// judges a report needs this package alone.
package answer
