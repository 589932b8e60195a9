package wire

import "crossfade/internal/base/walk"

// AuthKind is the request code of an authentication message.
type AuthKind uint32

const (
	AuthOK           AuthKind = 0
	AuthCleartext    AuthKind = 3
	AuthMD5          AuthKind = 5
	AuthSASL         AuthKind = 10
	AuthSASLContinue AuthKind = 11
	AuthSASLFinal    AuthKind = 12
)

// Auth is a decoded authentication request. Data aliases the body.
type Auth struct {
	Kind       AuthKind
	Salt       [4]byte  // AuthMD5
	Mechanisms []string // AuthSASL
	Data       []byte   // AuthSASLContinue, AuthSASLFinal
}

// DecodeAuth decodes an authentication request ('R'). A kind that is not listed above is returned
// without its data, for the caller to name it.
func DecodeAuth(body []byte) (Auth, error) {
	w := walk.Bytes{Rest: body}
	a := Auth{Kind: AuthKind(w.Uint32())}
	switch a.Kind {
	case AuthOK, AuthCleartext:
	case AuthMD5:
		copy(a.Salt[:], w.Take(4))
	case AuthSASL:
		for {
			name := w.Text()
			if len(name) == 0 {
				break
			}
			a.Mechanisms = append(a.Mechanisms, string(name))
		}
	case AuthSASLContinue, AuthSASLFinal:
		a.Data = w.Take(len(w.Rest))
	default:
		if w.Bad {
			return Auth{}, malformed("authentication request")
		}
		return a, nil
	}
	if err := done(&w, "authentication request"); err != nil {
		return Auth{}, err
	}
	return a, nil
}

// DecodePassword decodes a PasswordMessage ('p').
func DecodePassword(body []byte) (string, error) {
	w := walk.Bytes{Rest: body}
	s := string(w.Text())
	if err := done(&w, "PasswordMessage"); err != nil {
		return "", err
	}
	return s, nil
}

// DecodeSASLInitial decodes the client's choice of a mechanism ('p') and its first data, nil for
// none. The data aliases the body.
func DecodeSASLInitial(body []byte) (mechanism string, data []byte, err error) {
	w := walk.Bytes{Rest: body}
	mechanism = string(w.Text())
	data, _ = w.Value()
	if err := done(&w, "SASLInitialResponse"); err != nil {
		return "", nil, err
	}
	return mechanism, data, nil
}
