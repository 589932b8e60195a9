package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"time"
)

// dialTimeout bounds the connection to the socket: the kernel answers for a daemon that lives.
const dialTimeout = 5 * time.Second

// Client asks a daemon at its control socket. It may be used by several
// goroutines. Its errors are of type *Error.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient returns a client of the daemon at socket; it does not connect yet.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		d := net.Dialer{Timeout: dialTimeout}
		return d.DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Health asks whether the daemon is well.
func (c *Client) Health(ctx context.Context) (Health, error) {
	return call[Health](ctx, c, http.MethodGet, "/healthz", nil)
}

// Status asks for the status once.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, http.MethodGet, "/status", nil)
}

// Sessions asks for the proxy's client sessions.
func (c *Client) Sessions(ctx context.Context) ([]Session, error) {
	return call[[]Session](ctx, c, http.MethodGet, "/sessions", nil)
}

// Cutover starts a cutover and waits for its end. When ctx ends, or the connection is lost, the
// cutover is withdrawn: it continues only if it may have been decided.
func (c *Client) Cutover(ctx context.Context, opt CutoverOptions) (CutoverReport, error) {
	return c.CutoverShown(ctx, opt, func(Event) {})
}

// CutoverShown is Cutover that calls show with each step as it happens.
func (c *Client) CutoverShown(ctx context.Context, opt CutoverOptions, show func(Event)) (CutoverReport, error) {
	body, err := c.do(ctx, http.MethodPost, "/cutover", opt)
	if err != nil {
		return CutoverReport{}, err
	}
	defer func() { _ = body.Close() }()
	lines := bufio.NewReader(body)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return CutoverReport{}, c.lost(http.MethodPost, err)
		}
		var l CutoverLine
		if err := json.Unmarshal(line, &l); err != nil {
			return CutoverReport{}, c.garbled(err)
		}
		switch {
		case l.Error != nil:
			return CutoverReport{}, l.Error
		case l.Report != nil:
			return *l.Report, nil
		case l.Step != nil:
			show(*l.Step)
		}
	}
}

// CancelCutover withdraws the running cutover, no matter who asked for it, and returns its report:
// one that may have been decided continues. If none runs it returns an error with the code refused.
func (c *Client) CancelCutover(ctx context.Context, opt CancelOptions) (CutoverReport, error) {
	return call[CutoverReport](ctx, c, http.MethodPost, "/cutover/cancel", opt)
}

// LastCutover asks for the report of the last cutover that the daemon ran.
func (c *Client) LastCutover(ctx context.Context) (CutoverReport, error) {
	return call[CutoverReport](ctx, c, http.MethodGet, "/cutover", nil)
}

// Verify has both sides compared, or waits for the comparison that is under way. show is called with
// its progress every second. The comparison continues when ctx ends, or the connection is lost.
func (c *Client) Verify(ctx context.Context, show func(Verify)) (VerifyReport, error) {
	body, err := c.do(ctx, http.MethodPost, "/verify", nil)
	if err != nil {
		return VerifyReport{}, err
	}
	defer func() { _ = body.Close() }()
	lines := bufio.NewReader(body)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return VerifyReport{}, c.lost(http.MethodPost, err)
		}
		var l VerifyLine
		if err := json.Unmarshal(line, &l); err != nil {
			return VerifyReport{}, c.garbled(err)
		}
		switch {
		case l.Error != nil:
			return VerifyReport{}, l.Error
		case l.Report != nil:
			return *l.Report, nil
		case l.Progress != nil:
			show(*l.Progress)
		}
	}
}

// StopVerify stops the comparison that is under way, and returns when it has stopped. What it has
// compared is kept. If none runs the error has the code refused.
func (c *Client) StopVerify(ctx context.Context) error {
	_, err := call[struct{}](ctx, c, http.MethodPost, "/verify/cancel", nil)
	return err
}

// LastVerify asks for the report of the last comparison that was completed.
func (c *Client) LastVerify(ctx context.Context) (VerifyReport, error) {
	return call[VerifyReport](ctx, c, http.MethodGet, "/verify", nil)
}

// Finish ends the migration; it cannot be undone.
func (c *Client) Finish(ctx context.Context, opt FinishOptions) (FinishReport, error) {
	return call[FinishReport](ctx, c, http.MethodPost, "/finish", opt)
}

// Limits asks for the bounds that hold.
func (c *Client) Limits(ctx context.Context) (Limits, error) {
	return call[Limits](ctx, c, http.MethodGet, "/limits", nil)
}

// SetLimits sets bounds and returns those that hold.
func (c *Client) SetLimits(ctx context.Context, change LimitsChange) (Limits, error) {
	return call[Limits](ctx, c, http.MethodPost, "/limits", change)
}

// Watch calls f with each status that the daemon sends: one a second, and one at each change of
// state. It returns nil when ctx ends, and f's error when f gives one.
func (c *Client) Watch(ctx context.Context, f func(Status) error) error {
	body, err := c.do(ctx, http.MethodGet, "/status/stream", nil)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer func() { _ = body.Close() }()
	lines := bufio.NewReader(body)
	for {
		line, err := lines.ReadBytes('\n')
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return c.lost("GET", err)
		}
		var st Status
		if err := json.Unmarshal(line, &st); err != nil {
			return c.garbled(err)
		}
		if err := f(st); err != nil {
			return err
		}
	}
}

// call asks for one JSON value.
func call[T any](ctx context.Context, c *Client, method, path string, in any) (T, error) {
	var out T
	body, err := c.do(ctx, method, path, in)
	if err != nil {
		return out, err
	}
	defer func() { _ = body.Close() }()
	b, err := io.ReadAll(body)
	if err != nil {
		return out, c.lost(method, err)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return out, c.garbled(err)
	}
	return out, nil
}

// do sends a request and returns the body of a good answer. The caller closes it.
func (c *Client) do(ctx context.Context, method, path string, in any) (io.ReadCloser, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode options: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://crossfade"+prefix+path, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	if method == http.MethodPost && (path == "/cutover" || path == "/verify") {
		req.Header.Set("Accept", streamType)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.failed(method, err)
	}
	if res.StatusCode == http.StatusOK {
		return res.Body, nil
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return nil, c.lost(method, err)
	}
	var e Error
	if err := json.Unmarshal(b, &e); err != nil || e.Code == "" {
		return nil, c.garbled(fmt.Errorf("HTTP status %d", res.StatusCode))
	}
	return nil, &e
}

// failed tells a daemon that is not there from one that went away.
func (c *Client) failed(method string, err error) error {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "dial" {
		return c.lost(method, err)
	}
	if errors.Is(err, fs.ErrPermission) {
		return &Error{Code: CodeUnreachable, Message: fmt.Sprintf("control socket %s: permission denied", c.socket),
			Remedy: "run this as the user that runs the daemon"}
	}
	return &Error{Code: CodeUnreachable, Message: fmt.Sprintf("no daemon answers at control socket %s", c.socket),
		Remedy: "start one with crossfade run, or name its socket with --control"}
}

// lost is for an answer that did not arrive. What was requested by POST may continue.
func (c *Client) lost(method string, err error) error {
	e := &Error{Code: CodeLost, Message: fmt.Sprintf("the daemon at %s gave no answer: %v", c.socket, err),
		Remedy: "look at crossfade status and at the daemon's log"}
	if method == http.MethodPost {
		e.Remedy = "what became of it is not known: look at crossfade status, or at crossfade recover when no daemon runs"
	}
	return e
}

func (c *Client) garbled(err error) error {
	return &Error{Code: CodeInternal, Message: fmt.Sprintf("the answer at %s is not the control protocol: %v", c.socket, err),
		Remedy: "check that --control names a crossfade daemon of the same version"}
}
