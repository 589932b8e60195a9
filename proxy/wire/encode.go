package wire

import (
	"encoding/binary"
	"math"
	"strings"

	"github.com/jackc/pgproto3/v2"
)

// The Append functions append one whole message to dst. Text must not contain NUL: it is cut there,
// as the peer would cut it. Counts above 65535, which the protocol cannot express, yield a message
// that the peer refuses.

// AppendFrame appends a frame with a body that is already encoded.
func AppendFrame(dst []byte, typ byte, body []byte) []byte {
	dst, at := begin(dst, typ)
	return end(append(dst, body...), at)
}

// AppendAuthOK to AppendReadyForQuery are what a server says in a log-in.
func AppendAuthOK(dst []byte) []byte { return encode(dst, &pgproto3.AuthenticationOk{}) }

// AppendAuthMD5 asks for the password as md5 with this salt.
func AppendAuthMD5(dst []byte, salt [4]byte) []byte {
	return encode(dst, &pgproto3.AuthenticationMD5Password{Salt: salt})
}

// AppendAuthSASL offers SASL mechanisms, the preferred first.
func AppendAuthSASL(dst []byte, mechanisms ...string) []byte {
	cut := make([]string, len(mechanisms))
	for i, m := range mechanisms {
		cut[i] = text(m)
	}
	return encode(dst, &pgproto3.AuthenticationSASL{AuthMechanisms: cut})
}

// AppendAuthSASLContinue appends a challenge.
func AppendAuthSASLContinue(dst, data []byte) []byte {
	return encode(dst, &pgproto3.AuthenticationSASLContinue{Data: data})
}

// AppendAuthSASLFinal appends the outcome of the exchange.
func AppendAuthSASLFinal(dst, data []byte) []byte {
	return encode(dst, &pgproto3.AuthenticationSASLFinal{Data: data})
}

// AppendParameterStatus reports a run-time setting.
func AppendParameterStatus(dst []byte, name, value string) []byte {
	return encode(dst, &pgproto3.ParameterStatus{Name: text(name), Value: text(value)})
}

// AppendBackendKeyData announces the cancel key: 4 bytes up to protocol 3.0, 4 to 256 with 3.2.
func AppendBackendKeyData(dst []byte, pid uint32, key []byte) []byte {
	dst, at := begin(dst, 'K')
	dst = binary.BigEndian.AppendUint32(dst, pid)
	return end(append(dst, key...), at)
}

// AppendReadyForQuery reports the transaction status: 'I', 'T' or 'E'.
func AppendReadyForQuery(dst []byte, status byte) []byte {
	return encode(dst, &pgproto3.ReadyForQuery{TxStatus: status})
}

// AppendError appends an ErrorResponse.
func AppendError(dst []byte, e *ServerError) []byte { return encode(dst, e.response()) }

// AppendPassword answers a request for a password, in clear text or as md5.
func AppendPassword(dst []byte, password string) []byte {
	return encode(dst, &pgproto3.PasswordMessage{Password: text(password)})
}

// AppendSASLInitial chooses a mechanism and begins its exchange.
func AppendSASLInitial(dst []byte, mechanism string, data []byte) []byte {
	return encode(dst, &pgproto3.SASLInitialResponse{AuthMechanism: text(mechanism), Data: data})
}

// AppendSASLResponse goes on with a SASL exchange.
func AppendSASLResponse(dst, data []byte) []byte {
	return encode(dst, &pgproto3.SASLResponse{Data: data})
}

// AppendParse appends a Parse; oids are the types of the first parameters, 0 for "infer".
func AppendParse(dst []byte, name, sql string, oids []uint32) []byte {
	return encode(dst, &pgproto3.Parse{Name: text(name), Query: text(sql), ParameterOIDs: oids})
}

// AppendBind appends a Bind. Format codes are 0 for text and 1 for binary; none means text for all,
// one means that one for all. A nil parameter is NULL.
func AppendBind(dst []byte, portal, statement string, paramFormats []int16, params [][]byte, resultFormats []int16) []byte {
	return encode(dst, &pgproto3.Bind{
		DestinationPortal: text(portal), PreparedStatement: text(statement),
		ParameterFormatCodes: paramFormats, Parameters: params, ResultFormatCodes: resultFormats,
	})
}

// AppendDescribe describes a statement ('S') or a portal ('P').
func AppendDescribe(dst []byte, object byte, name string) []byte {
	return encode(dst, &pgproto3.Describe{ObjectType: object, Name: text(name)})
}

// AppendExecute runs a portal; maxRows 0 means all rows.
func AppendExecute(dst []byte, portal string, maxRows uint32) []byte {
	return encode(dst, &pgproto3.Execute{Portal: text(portal), MaxRows: maxRows})
}

// AppendClose closes a statement ('S') or a portal ('P').
func AppendClose(dst []byte, object byte, name string) []byte {
	return encode(dst, &pgproto3.Close{ObjectType: object, Name: text(name)})
}

// AppendSync ends an extended-query unit.
func AppendSync(dst []byte) []byte { return encode(dst, &pgproto3.Sync{}) }

// AppendTerminate says good-bye.
func AppendTerminate(dst []byte) []byte { return encode(dst, &pgproto3.Terminate{}) }

type encoder interface {
	Encode(dst []byte) ([]byte, error)
}

// encode keeps dst when pgproto3 refuses (a count above 65535, a body above 1 GiB) and appends a
// frame of a type that no peer knows, so that the mistake ends the exchange instead of shifting it
// by one message.
func encode(dst []byte, m encoder) []byte {
	out, err := m.Encode(dst)
	if err != nil {
		return append(dst, 0, 0, 0, 0, 4)
	}
	return out
}

// text cuts at NUL.
func text(s string) string {
	if i := strings.IndexByte(s, 0); i >= 0 {
		return s[:i]
	}
	return s
}

func begin(dst []byte, typ byte) ([]byte, int) {
	dst = append(dst, typ, 0, 0, 0, 0)
	return dst, len(dst) - 4
}

func end(dst []byte, at int) []byte {
	n := len(dst) - at
	if n > math.MaxInt32 {
		return append(dst[:at-1], 0, 0, 0, 0, 4)
	}
	binary.BigEndian.PutUint32(dst[at:], uint32(n))
	return dst
}
