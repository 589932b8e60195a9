package ports

import "github.com/jackc/pgx/v5"

// Use runs f on the session that holds the pre-lock.
func (p *Prelock) Use(f func(*pgx.Conn)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p.conn)
}

// EndBeat ends what keeps the session from falling silent.
func (p *Prelock) EndBeat() {
	p.mu.Lock()
	stop, done := p.stop, p.done
	p.mu.Unlock()
	stop()
	<-done
}
