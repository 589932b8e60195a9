package state

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// Bind learns, from the body of a Bind whose end may be missing, the parameters that its statement
// uses as names of settings. In both formats the value of a text is its bytes.
func (n *Names) Bind(body []byte) {
	_, rest, ok := bytes.Cut(body, []byte{0}) // the portal
	if !ok {
		return
	}
	statement, rest, ok := bytes.Cut(rest, []byte{0})
	if !ok {
		return
	}
	params := n.params(statement)
	if len(params) == 0 {
		return
	}
	v := values{rest: rest}
	v.skip(2 * v.uint16()) // formats
	n.pick(params, &v)
}

// Call learns from the body of a FunctionCall.
func (n *Names) Call(body []byte) {
	if len(body) < 4 || binary.BigEndian.Uint32(body) != setConfigOID {
		return
	}
	v := values{rest: body[4:]}
	v.skip(2 * v.uint16())
	n.pick([]int{0}, &v)
}

// setConfigOID is the OID of pg_catalog.set_config in every version of PostgreSQL.
const setConfigOID = 2078

// pick learns the values at these positions.
func (n *Names) pick(params []int, v *values) {
	last := slices.Max(params)
	count := v.uint16()
	for i := range min(count, last+1) {
		value := v.value()
		if !v.bad && value != nil && slices.Contains(params, i) {
			n.Add(string(value))
		}
	}
	if v.bad {
		n.Opaque("a value of more than a megabyte ahead of the name of a setting")
	}
}

// values steps over the values of a Bind. After a step beyond the end it is bad.
type values struct {
	rest []byte
	bad  bool
}

func (v *values) skip(n int) []byte {
	if v.bad || n < 0 || n > len(v.rest) {
		v.bad = true
		return nil
	}
	b := v.rest[:n]
	v.rest = v.rest[n:]
	return b
}

func (v *values) uint16() int {
	if b := v.skip(2); b != nil {
		return int(binary.BigEndian.Uint16(b))
	}
	return 0
}

// value returns the next value, nil for NULL.
func (v *values) value() []byte {
	b := v.skip(4)
	if b == nil {
		return nil
	}
	n := int32(binary.BigEndian.Uint32(b))
	if n == -1 {
		return nil
	}
	return v.skip(int(n))
}
