package session

import (
	"strings"

	"crossfade/proxy/wire"
)

// optionList keeps the last value of each name, names compared without case.
type optionList struct {
	list []wire.Param
}

func (o *optionList) set(name, value string) {
	for i := range o.list {
		if strings.EqualFold(o.list[i].Name, name) {
			o.list[i] = wire.Param{Name: name, Value: value}
			return
		}
	}
	o.list = append(o.list, wire.Param{Name: name, Value: value})
}

// parseOptions reads the start-up parameter "options" as pg_split_opts and the
// option parser of a backend do: -c name=value, -cname=value, --name=value.
// Words of a proxy that stands before the server (endpoint=..., neon_...) are
// left out: what they mean is between the client and another server.
func parseOptions(s string) (settings []wire.Param, flags []string) {
	words := splitWords(s)
	for i := 0; i < len(words); i++ {
		w := words[i]
		switch {
		case w == "-c" && i+1 < len(words):
			i++
			w = words[i]
		case strings.HasPrefix(w, "--"):
			w = w[2:]
		case strings.HasPrefix(w, "-c"):
			w = w[2:]
		case strings.HasPrefix(w, "-"):
			flags = append(flags, w)
			continue
		default:
			continue
		}
		name, value, ok := strings.Cut(w, "=")
		if !ok {
			continue
		}
		settings = append(settings, wire.Param{Name: strings.ReplaceAll(name, "-", "_"), Value: value})
	}
	return settings, flags
}

// splitWords splits at white space; a backslash takes the next byte as it is.
func splitWords(s string) []string {
	var words []string
	var b strings.Builder
	in := false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
			in = true
		case c == ' ' || c >= '\t' && c <= '\r':
			if in {
				words = append(words, b.String())
				b.Reset()
				in = false
			}
		default:
			b.WriteByte(c)
			in = true
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
