package state

import (
	"strings"

	"crossfade/internal/base/sqltext"
	"crossfade/proxy/wire"
)

// optionList keeps the last value of each name, names compared without case. DateStyle
// is the exception: a value may say the order of day and month alone, or the style, and
// leaves the other as it was.
type optionList struct {
	list []wire.Param
}

func (o *optionList) set(name, value string) {
	for i := range o.list {
		if sqltext.Lower(name) == "datestyle" {
			break
		}
		if strings.EqualFold(o.list[i].Name, name) {
			o.list[i] = wire.Param{Name: name, Value: value}
			return
		}
	}
	o.list = append(o.list, wire.Param{Name: name, Value: value})
}

// parseOptions returns the settings that the start-up parameter "options" makes, as a backend reads
// them (PostgreSQL source, postinit.c and postgres.c; the documentation of "postgres" has the
// letters): words are options of getopt, whose letters can be combined and whose arguments can be
// in the same word or in the next. Options that only the start of the server itself can have do
// nothing in a client's options, or make the server refuse the login: neither is carried over.
//
// Words for a proxy in front of the server (endpoint=..., neon_...) are left out: they concern
// another server than the one that is dialled.
func parseOptions(s string) (settings []wire.Param) {
	words := splitWords(s)
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		if word == "--" {
			break // what follows is no option
		}
		if len(word) < 2 || word[0] != '-' {
			continue
		}
		for at := 1; at < len(word); at++ {
			letter := word[at]
			if !strings.ContainsRune(withArgument, rune(letter)) {
				settings = append(settings, flagSettings(letter)...)
				continue
			}
			argument := word[at+1:]
			if argument == "" && len(words) > 0 {
				argument, words = words[0], words[1:]
			}
			settings = append(settings, argumentSettings(letter, argument)...)
			break
		}
	}
	return settings
}

// withArgument are the letters that take an argument. "-" is one, so that --name=value
// is the option "-" with the argument name=value.
const withArgument = "BCcDdfhkNprStvW-"

// flagSettings are what a letter without an argument sets.
func flagSettings(letter byte) []wire.Param {
	switch letter {
	case 'e':
		return []wire.Param{{Name: "datestyle", Value: "euro"}}
	case 'O':
		return []wire.Param{{Name: "allow_system_table_mods", Value: "true"}}
	case 'P':
		return []wire.Param{{Name: "ignore_system_indexes", Value: "true"}}
	}
	return nil // -s, and -d and -t, are for the log alone
}

// methods are the letters of -f, which forbids the planner something. Of several the
// server reads the first.
var methods = map[rune]string{
	's': "enable_seqscan", 'i': "enable_indexscan", 'o': "enable_indexonlyscan", 'b': "enable_bitmapscan",
	't': "enable_tidscan", 'n': "enable_nestloop", 'm': "enable_mergejoin", 'h': "enable_hashjoin",
}

// argumentSettings are what a letter with an argument sets.
func argumentSettings(letter byte, argument string) (settings []wire.Param) {
	switch letter {
	case 'c', '-':
		if name, value, ok := strings.Cut(argument, "="); ok {
			return []wire.Param{{Name: strings.ReplaceAll(name, "-", "_"), Value: value}}
		}
	case 'S':
		return []wire.Param{{Name: "work_mem", Value: argument}}
	case 'W':
		return []wire.Param{{Name: "post_auth_delay", Value: argument}}
	case 'f':
		for _, m := range argument[:min(1, len(argument))] {
			if name, ok := methods[m]; ok {
				settings = append(settings, wire.Param{Name: name, Value: "false"})
			}
		}
	}
	return settings
}

// splitWords splits at white space; a backslash takes the next byte as it is.
func splitWords(s string) []string {
	var words []string
	var b strings.Builder
	in, escaped := false, false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && !escaped:
			in, escaped = true, true
		case !escaped && (c == ' ' || c >= '\t' && c <= '\r'):
			if in {
				words = append(words, b.String())
				b.Reset()
				in = false
			}
		default:
			b.WriteByte(c)
			in, escaped = true, false
		}
	}
	if in {
		words = append(words, b.String())
	}
	return words
}

func escapeWord(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '\\' || c == ' ' || c >= '\t' && c <= '\r' {
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	return b.String()
}
