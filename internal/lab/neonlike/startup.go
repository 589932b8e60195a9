package neonlike

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"regexp"
	"strings"
)

type param struct{ name, value string }

// startup is a StartupMessage.
type startup struct {
	version uint32
	params  []param // in the order sent
}

func (s *startup) get(name string) string {
	value := ""
	for _, p := range s.params {
		if p.name == name {
			value = p.value
		}
	}
	return value
}

// unsupported lists the protocol extensions that the client asks for.
func (s *startup) unsupported() []string {
	var names []string
	for _, p := range s.params {
		if strings.HasPrefix(p.name, "_pq_.") {
			names = append(names, p.name)
		}
	}
	return names
}

// readPacket reads a first packet and never a byte more, since a TLS handshake may
// follow. tls says that the client begins with one instead; first is its first byte then.
func readPacket(r io.Reader) (code uint32, body []byte, first byte, tls bool, err error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:1]); err != nil {
		return 0, nil, 0, false, err
	}
	if head[0] == 0x16 {
		return 0, nil, head[0], true, nil
	}
	if _, err := io.ReadFull(r, head[1:]); err != nil {
		return 0, nil, 0, false, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < 8 || n > maxStartup {
		return 0, nil, 0, false, errors.New("first packet of a length that is not allowed")
	}
	body = make([]byte, n-8)
	if _, err := io.ReadFull(r, body); err != nil {
		return 0, nil, 0, false, err
	}
	return binary.BigEndian.Uint32(head[4:]), body, 0, false, nil
}

func parseStartup(version uint32, body []byte) (*startup, error) {
	s := &startup{version: version}
	for len(body) > 0 && body[0] != 0 {
		name, rest, ok := cutZero(body)
		if !ok {
			return nil, errors.New("start-up packet without an end")
		}
		value, rest, ok := cutZero(rest)
		if !ok {
			return nil, errors.New("start-up packet without an end")
		}
		s.params = append(s.params, param{name, value})
		body = rest
	}
	if s.get("user") == "" {
		return nil, errors.New("start-up packet without a user")
	}
	return s, nil
}

// compatOption makes Neon's proxy pass on every start-up parameter.
const compatOption = "neon_proxy_params_compat:true"

var (
	neonOption     = regexp.MustCompile(`^neon_\w+:.+$`)
	endpointOption = regexp.MustCompile(`^(?:endpoint|project)=(.+)$`)
)

// splitOptions splits the parameter options as PostgreSQL does (pg_split_opts), each
// word with its backslashes.
func splitOptions(s string) []string {
	var words []string
	var word strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			word.WriteByte(c)
			i++
			word.WriteByte(s[i])
		case strings.IndexByte(" \t\n\r\v\f", c) >= 0:
			if word.Len() > 0 {
				words = append(words, word.String())
				word.Reset()
			}
		default:
			word.WriteByte(c)
		}
	}
	if word.Len() > 0 {
		words = append(words, word.String())
	}
	return words
}

// endpointOf returns the endpoint that the options name; several name none.
func (s *startup) endpointOf() string {
	found := ""
	for _, w := range splitOptions(s.get("options")) {
		if m := endpointOption.FindStringSubmatch(w); m != nil {
			if found != "" {
				return ""
			}
			found = m[1]
		}
	}
	return found
}

// options are what the compute is told of the parameter options.
func (s *startup) options() string {
	var kept []string
	for _, w := range splitOptions(s.get("options")) {
		if !endpointOption.MatchString(w) && !neonOption.MatchString(w) {
			kept = append(kept, w)
		}
	}
	return strings.Join(kept, " ")
}

// forwarded are the parameters that reach the compute: few, whatever was sent.
func (s *startup) forwarded() []param {
	compat := false
	for _, w := range splitOptions(s.get("options")) {
		compat = compat || w == compatOption
	}
	var out []param
	if !compat {
		out = append(out, param{"client_encoding", "UTF8"})
	}
	for _, p := range s.params {
		switch p.name {
		case "options":
			if o := s.options(); o != "" {
				out = append(out, param{"options", o})
			}
		case "user", "database", "application_name", "replication":
			out = append(out, p)
		default:
			if compat && !strings.HasPrefix(p.name, "_pq_.") {
				out = append(out, p)
			}
		}
	}
	return out
}

func packet(params []param) []byte {
	b := word(version30)
	for _, p := range params {
		b = append(append(append(append(b, p.name...), 0), p.value...), 0)
	}
	return frame(0, b, []byte{0})
}

// prefixed gives back bytes that were read of a connection.
type prefixed struct {
	net.Conn
	first []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.first) > 0 {
		n := copy(b, p.first)
		p.first = p.first[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}
