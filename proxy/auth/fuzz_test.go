package auth_test

import (
	"bytes"
	"context"
	"testing"

	"crossfade/proxy/auth"
)

// talk is a client whose words are known beforehand.
type talk struct {
	in  *bytes.Reader
	out bytes.Buffer
}

func (c *talk) Read(b []byte) (int, error)  { return c.in.Read(b) }
func (c *talk) Write(b []byte) (int, error) { return c.out.Write(b) }

// FuzzLogin: whatever a client says, without the password it does not come in.
func FuzzLogin(f *testing.F) {
	f.Add("plain", []byte("p\x00\x00\x00\x36SCRAM-SHA-256\x00\x00\x00\x00\x20n,,n=,r=rOprNGfwEbeRWgbNEkqO"))
	f.Add("hash", []byte("p\x00\x00\x00\x28md500000000000000000000000000000000\x00"))
	f.Add("nobody", []byte("p\x7f\xff\xff\xff"))
	hash, err := auth.ParseSecret(auth.MD5Hash("hash", "secret"))
	if err != nil {
		f.Fatal(err)
	}
	users := auth.NewUsers(auth.User{Name: "plain", Secret: auth.Plain("secret")}, auth.User{Name: "hash", Secret: hash})
	f.Fuzz(func(t *testing.T, user string, says []byte) {
		c := &talk{in: bytes.NewReader(says)}
		if _, err := auth.Server(context.Background(), c, auth.Client{User: user}, users); err == nil {
			t.Fatalf("%q is let in with %q", user, says)
		}
		if bytes.Contains(c.out.Bytes(), []byte("secret")) {
			t.Fatal("the secret is shown")
		}
	})
}

// FuzzParseSecret: a secret that is read never shows itself.
func FuzzParseSecret(f *testing.F) {
	f.Add("SCRAM-SHA-256$4096:AAAA$AAAA:AAAA")
	f.Add("md5" + "0123456789abcdef0123456789abcdef")
	f.Fuzz(func(_ *testing.T, s string) {
		if one, err := auth.ParseSecret(s); err == nil {
			one.Plaintext()
		}
	})
}
