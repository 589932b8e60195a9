package wiretest

import (
	"encoding/binary"

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
