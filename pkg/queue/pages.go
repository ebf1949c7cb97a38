package queue

import (
	"context"
	"time"

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
	first    *page // read already
	chunks   int   // most in the next page; bytes too
	bytes    int
	ended    bool
	took     time.Duration // to read the pages handed out since Took was asked

	// Reading ahead only.
	pages chan page
	stop  chan struct{}
}

// page is what a read gave.
type page struct {
	chunks []Chunk
	last   bool
	took   time.Duration
	err    error
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
	if ahead && (p.first == nil || !p.first.last) {
		p.pages, p.stop = make(chan page), make(chan struct{})
		go p.readAhead(ctx)
	}
	return p
}

// Next returns the chunks of the next page; last says that none follow.
func (p *Pages) Next(ctx context.Context) (chunks []Chunk, last bool, err error) {
	if p.ended {
		return nil, true, nil
	}
	var next page
	switch {
	case p.first != nil:
		next, p.first = *p.first, nil
	case p.pages == nil:
		next = p.read(ctx)
	default:
		next = <-p.pages
	}
	p.ended = next.last || next.err != nil
	p.took += next.took
	return next.chunks, next.last, next.err
}

// Took returns how long it took to read the pages handed out since the last call.
// Waiting for changes is not counted, nor what was read ahead for nothing.
func (p *Pages) Took() time.Duration {
	took := p.took
	p.took = 0
	return took
}

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
		if next.last || next.err != nil {
			return
		}
	}
}

func (p *Pages) read(ctx context.Context) page {
	began := time.Now()
	chunks, last, err := p.interval.Read(ctx, p.session, p.chunks, p.bytes)
	p.chunks, p.bytes = pageChunks, pageBytes
	return page{chunks: chunks, last: last, took: time.Since(began), err: err}
}
