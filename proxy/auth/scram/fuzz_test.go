package scram_test

import (
	"testing"

	"crossfade/proxy/auth/scram"
)

// FuzzParseVerifier: a verifier that is taken is written as it was read.
func FuzzParseVerifier(f *testing.F) {
	f.Add(scram.Mock([]byte("k"), "u").Encode())
	f.Add("SCRAM-SHA-256$4096:AAAA$AAAA:AAAA")
	f.Add("SCRAM-SHA-256$99999999999:$:")
	f.Fuzz(func(t *testing.T, s string) {
		v, err := scram.ParseVerifier(s)
		if err != nil {
			return
		}
		again, err := scram.ParseVerifier(v.Encode())
		if err != nil || again.Encode() != v.Encode() {
			t.Fatalf("%q becomes %q (%v)", s, v.Encode(), err)
		}
	})
}

// FuzzPrep: SASLprep takes any password.
func FuzzPrep(f *testing.F) {
	f.Add("I\u00adX\u2168\x00")
	f.Fuzz(func(_ *testing.T, s string) { scram.Prep(s) })
}
