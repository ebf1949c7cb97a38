package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"

	"github.com/pg-courier/pg_courier/pkg/compare"
	"github.com/pg-courier/pg_courier/pkg/terminal"
)

const (
	barWidth = 30
	barEvery = 100 * time.Millisecond
)

// bar shows on a terminal how a long piece of work gets on, in one line that is
// written over. Elsewhere it shows nothing.
type bar struct {
	w     io.Writer
	width func() int
	last  time.Time
	drawn bool
}

func newBar(file *os.File) *bar {
	if !term.IsTerminal(int(file.Fd())) {
		return &bar{}
	}
	return &bar{w: file, width: func() int {
		width, _, err := term.GetSize(int(file.Fd()))
		if err != nil || width < 20 {
			return 80
		}
		return width
	}}
}

// show draws it.
func (b *bar) show(p compare.Progress) {
	if b.w == nil || time.Since(b.last) < barEvery && !p.Finished {
		return
	}
	b.last, b.drawn = time.Now(), true
	full := min(max(int(p.Part*barWidth), 0), barWidth)
	line := fmt.Sprintf("[%s%s] %3d %% %s (%d of %d), %s", strings.Repeat("#", full), strings.Repeat(".", barWidth-full),
		int(100*p.Part), terminal.Plain(p.Table), p.Number, p.Tables, p.Step)
	if p.Found > 0 {
		line += fmt.Sprintf(", %d rows differ", p.Found)
	}
	// what can't be drawn is no loss
	_, _ = fmt.Fprintf(b.w, "\r%s\x1b[K", text.Trim(line, b.width()-1))
}

// clear takes it away.
func (b *bar) clear() {
	if b.drawn {
		_, _ = fmt.Fprint(b.w, "\r\x1b[K")
	}
}
