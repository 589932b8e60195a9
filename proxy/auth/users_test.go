package auth_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/proxy/auth"
)

const usersFile = `# who may come in
app  hunter2

"odd user" "pass ""word"" # not a comment" target "other pw"   # a comment
hashed md50123456789abcdef0123456789abcdef neon_app neon_pw
kept - neon_kept kept_pw
dash "-"
`

func TestParseUsers(t *testing.T) {
	t.Parallel()
	u, err := auth.ParseUsers(strings.NewReader(usersFile))
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"app", "odd user", "hashed", "kept", "dash"}, u.Names())
	for user, want := range map[string][2]string{
		"app":      {"app/hunter2", ""},
		"odd user": {`odd user/pass "word" # not a comment`, "target/other pw"},
		"hashed":   {"", "neon_app/neon_pw"},
		"kept":     {"", "neon_kept/kept_pw"},
		"dash":     {"dash/-", ""},
		"nobody":   {"", ""},
	} {
		for side, f := range map[int]func(string) (string, string, bool){0: u.Source, 1: u.Mapped} {
			name, pw, ok := f(user)
			got := ""
			if ok {
				got = name + "/" + pw
			}
			require.Equal(t, want[side], got, user)
		}
	}
	pw, ok := u.TargetPassword("neon_kept")
	require.True(t, ok)
	require.Equal(t, "kept_pw", pw)
	_, ok = u.TargetPassword("")
	require.False(t, ok)
	s, ok, err := u.Secret(context.Background(), "app")
	require.NoError(t, err)
	require.True(t, ok)
	plain, ok := s.Plaintext()
	require.True(t, ok)
	require.Equal(t, "hunter2", plain)
	more := u.With(auth.User{Name: "app", Secret: auth.Plain("x")}, auth.User{Name: "new", Secret: auth.Plain("y")})
	_, pw, _ = more.Source("app")
	require.Equal(t, "hunter2", pw)
	_, _, ok = more.Source("new")
	require.True(t, ok)
}

func TestParseUsersErrors(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"app":                                    "line 1: has 1 values",
		"a b\n\na topsecret c":                   "line 3: has 3 values",
		"a topsecret\na b":                       "line 2: user is already in line 1",
		`"" topsecret`:                           "line 1: user name is empty",
		`a ""`:                                   "line 1: secret is empty",
		"a -":                                    "line 1: only what the password is checked with is given",
		"a md50123456789abcdef0123456789abcdef":  "line 1: only what the password is checked with is given",
		`a "topsecret`:                           "line 1: a quoted value does not end",
		`a "topsecret"b c d`:                     "line 1: a blank is missing",
		`a topsecret "" d`:                       "line 1: target user or password is empty",
		"a SCRAM-SHA-256$tops":                   "line 1: SCRAM verifier is not of the form",
		"a " + strings.Repeat("topsecret", 9000): "line 1: ",
	} {
		_, err := auth.ParseUsers(strings.NewReader(in))
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "topsecret")
	}
}

func TestReadUsers(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "users")
	require.NoError(t, os.WriteFile(file, []byte(usersFile), 0o600))
	_, err := auth.ReadUsers(file)
	require.NoError(t, err)
	for _, mode := range []os.FileMode{0o640, 0o604, 0o644, 0o620} {
		require.NoError(t, os.Chmod(file, mode))
		_, err = auth.ReadUsers(file)
		require.ErrorContains(t, err, "chmod 600")
	}
	require.NoError(t, os.WriteFile(file, []byte("x"), 0o600))
	require.NoError(t, os.Chmod(file, 0o600))
	_, err = auth.ReadUsers(file)
	require.ErrorContains(t, err, file+": line 1")
	_, err = auth.ReadUsers(t.TempDir())
	require.ErrorContains(t, err, "not a regular file")
	_, err = auth.ReadUsers(file + ".none")
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestSecretIsNotPrinted(t *testing.T) {
	t.Parallel()
	u := auth.User{Name: "app", Secret: auth.Plain("hunter2"), TargetPassword: "hunter3"}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		require.Equal(t, "[secret]", fmt.Sprintf(verb, u.Secret))
		require.NotContains(t, fmt.Sprintf(verb, u), "hunter")
		require.NotContains(t, fmt.Sprintf(verb, []auth.User{u}), "hunter")
	}
}

func FuzzParseUsers(f *testing.F) {
	f.Add(usersFile)
	f.Add(`a "b`)
	f.Fuzz(func(_ *testing.T, in string) { _, _ = auth.ParseUsers(strings.NewReader(in)) })
}
