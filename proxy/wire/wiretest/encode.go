package wiretest

import (
	"encoding/binary"
	"fmt"

	"crossfade/proxy/wire"
)

// AppendAuthCleartext asks for the password in clear text.
func AppendAuthCleartext(dst []byte) []byte { return wire.AppendFrame(dst, 'R', []byte{0, 0, 0, 3}) }

// AppendNotification appends a NotificationResponse.
func AppendNotification(dst []byte, pid uint32, channel, payload string) []byte {
	body := binary.BigEndian.AppendUint32(nil, pid)
	return wire.AppendFrame(dst, 'A', append(body, channel+"\x00"+payload+"\x00"...))
}

// AppendNotice appends a NoticeResponse, which is an ErrorResponse of another type.
func AppendNotice(dst []byte, e *wire.ServerError) []byte {
	at := len(dst)
	dst = wire.AppendError(dst, e)
	dst[at] = 'N'
	return dst
}

// AppendQuery appends a simple Query. It destroys the unnamed statement of the session.
func AppendQuery(dst []byte, sql string) []byte {
	return wire.AppendFrame(dst, 'Q', append([]byte(sql), 0))
}

// AppendFlush asks for the replies so far.
func AppendFlush(dst []byte) []byte { return wire.AppendFrame(dst, 'H', nil) }

// Frame makes a frame of that type: strings are ended by a zero byte, an int is a number of two
// bytes, a uint32 one of four, and bytes stand as they are.
func Frame(typ byte, parts ...any) []byte { return wire.AppendFrame(nil, typ, Join(parts...)) }

// Join makes the body of such a frame.
func Join(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			b = append(append(b, p...), 0)
		case []byte:
			b = append(b, p...)
		case int:
			b = binary.BigEndian.AppendUint16(b, uint16(p))
		case uint32:
			b = binary.BigEndian.AppendUint32(b, p)
		default:
			panic(fmt.Sprintf("%T in a frame", p))
		}
	}
	return b
}

// Counted is a value with its length ahead of it, in four bytes.
func Counted(v []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(v))), v...)
}
