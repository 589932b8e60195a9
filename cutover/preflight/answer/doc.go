// Package answer holds the results of a preflight: findings, the report that contains them, and how
// it is printed.
//
// A finding is something that was found, and an Incomplete a question that was not answered: a
// report with one of the latter is never ready. Codes and the fields of the JSON form are a
// contract, since scripts rely on them. Nothing here queries a database; code that prints or judges
// a report needs only this package.
package answer
