package queue

import (
	"context"
	"time"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// What is read at once; less at first, so that work begins soon.
const (
	pageBytes   = 256 << 10
	pageChunks  = 4096
	firstBytes  = 64 << 10
	firstChunks = 256
)

// Pages hands out the chunks of an interval, a page at a time. It must be closed.
type Pages struct {
	interval *Interval
	session  session.Session
	first    *Page // read already
	chunks   int   // most in the next page; bytes too
	bytes    int
	ended    bool
	took     time.Duration // to read the pages handed out since Took was asked

	// Reading ahead only.
	pages chan outcome
	stop  chan struct{}
}

// Page is some chunks of an interval.
type Page struct {
	Chunks []Chunk
	Last   bool // none follow
	// Flushed is up to where the source's WAL is on disk, the commits of the
	// page's transactions included.
	Flushed change.WAL

	took time.Duration
}

// outcome is what reading a page came to.
type outcome struct {
	page *Page
	err  error
}

// Pages starts to read an interval in a session. If the session is used for
// nothing else until Close, ahead lets the next page be read while the caller
// works on this one; ctx then bounds all reads.
func (i *Interval) Pages(ctx context.Context, s session.Session, ahead bool) *Pages {
	p := &Pages{interval: i, session: s, first: i.first, chunks: firstChunks, bytes: firstBytes}
	if i.first != nil {
		i.first = nil
		p.chunks, p.bytes = pageChunks, pageBytes
	}
	if ahead && (p.first == nil || !p.first.Last) {
		p.pages, p.stop = make(chan outcome), make(chan struct{})
		go p.readAhead(ctx)
	}
	return p
}

// Next returns the next page; behind the last one an empty one.
func (p *Pages) Next(ctx context.Context) (*Page, error) {
	if p.ended {
		return &Page{Last: true}, nil
	}
	var next outcome
	switch {
	case p.first != nil:
		next.page, p.first = p.first, nil
	case p.pages == nil:
		next = p.read(ctx)
	default:
		next = <-p.pages
	}
	if p.ended = next.ends(); next.page != nil {
		p.took += next.page.took
	}
	return next.page, next.err
}

// Took returns how long it took to read the pages handed out since the last call.
// Waiting for changes is not counted, nor what was read ahead for nothing.
func (p *Pages) Took() time.Duration {
	took := p.took
	p.took = 0
	return took
}

// ends says that nothing is to be read behind it.
func (o outcome) ends() bool { return o.err != nil || o.page.Last }

// Close ends the reading; the session is free again.
func (p *Pages) Close() {
	if p.pages == nil {
		return
	}
	close(p.stop)
	for range p.pages {
	}
}

// readAhead closes the channel when it is done with the session.
func (p *Pages) readAhead(ctx context.Context) {
	defer close(p.pages)
	for {
		next := p.read(ctx)
		select {
		case p.pages <- next:
		case <-p.stop:
			return
		}
		if next.ends() {
			return
		}
	}
}

func (p *Pages) read(ctx context.Context) outcome {
	began := time.Now()
	page, err := p.interval.Read(ctx, p.session, p.chunks, p.bytes)
	if page != nil {
		page.took = time.Since(began)
	}
	p.chunks, p.bytes = pageChunks, pageBytes
	return outcome{page, err}
}
