package answer

import (
	"encoding/json"
	"io"
)

// document is the JSON form; its fields are a contract.
type document struct {
	Ready      bool         `json:"ready"`
	Complete   bool         `json:"complete"`
	Blockers   []Finding    `json:"blockers"`
	Warnings   []Finding    `json:"warnings"`
	Infos      []Finding    `json:"infos"`
	Incomplete []incomplete `json:"incomplete"`
}

type incomplete struct {
	Check string `json:"check"`
	Error string `json:"error"`
}

// WriteJSON prints the report as one object. Lists are never null.
func WriteJSON(w io.Writer, r Report) error {
	d := document{
		Ready:      r.Ready(),
		Complete:   len(r.Incomplete) == 0,
		Blockers:   notNil(r.Of(Blocker)),
		Warnings:   notNil(r.Of(Warning)),
		Infos:      notNil(r.Of(Info)),
		Incomplete: []incomplete{},
	}
	for _, i := range r.Incomplete {
		d.Incomplete = append(d.Incomplete, incomplete{Check: i.Check, Error: OneLine(i.Err.Error())})
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(d)
}

func notNil(f []Finding) []Finding {
	if f == nil {
		return []Finding{}
	}
	return f
}
