package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/pg-courier/pg_courier/pkg/compare"
	"github.com/pg-courier/pg_courier/pkg/status"
)

// screen is a terminal of 100 columns, and what was written to it.
type screen struct {
	t        *testing.T
	terminal *os.File

	mu    sync.Mutex
	shown bytes.Buffer
}

func openScreen(t *testing.T) *screen {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 25, Col: 100}))
	s := &screen{t: t, terminal: terminal}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 4096)
		for {
			n, err := keyboard.Read(buffer)
			s.mu.Lock()
			s.shown.Write(buffer[:n])
			s.mu.Unlock()
			if err != nil { // EIO once the terminal is closed
				return
			}
		}
	}()
	t.Cleanup(func() {
		require.NoError(t, terminal.Close())
		<-done
		require.NoError(t, keyboard.Close())
	})
	return s
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown.String()
}

// shows waits until a text is on the screen.
func (s *screen) shows(text string) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return strings.Contains(s.text(), text) }, 30*time.Second, 10*time.Millisecond,
		"%q is not shown", text)
}

// On a terminal each table that is being copied has a bar.
func TestCopyBar(t *testing.T) {
	t.Parallel()
	s := openScreen(t)
	v := newCopyView(s.terminal)
	copies := []status.Copy{
		{Schema: "shop", Table: "item\x1b[2J", State: "copying", Bytes: 1 << 10, BytesTotal: 100 << 10},
		{Schema: "shop", Table: "before", State: "copied"},
	}
	v.update(copies)
	s.shows("shop.item\uFFFD[2J copying")
	s.shows("1.00%")
	s.shows("ETA")
	copies[0].State, copies[0].Bytes = "copied", 100<<10
	v.update(copies)
	s.shows("done!")
	v.end()
	require.NotContains(t, s.text(), "shop.before", "it was copied before")
}

// Elsewhere each has a line for each change, with the rate and what is left.
func TestCopyLines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	v := newCopyView(&out)
	rate, left := 2048.0, 90.0
	c := status.Copy{Schema: "shop", Table: "item", State: "copying", ChunksDone: 1, ChunksTotal: 4, Rows: 10, BytesPerSecond: &rate, SecondsLeft: &left}
	v.update([]status.Copy{c})
	left = 80 // is no change
	v.update([]status.Copy{c})
	v.update([]status.Copy{{Schema: "shop", Table: "item", State: "copied", ChunksDone: 4, ChunksTotal: 4, Rows: 40}})
	v.end()
	require.Equal(t, "shop.item: copying, 1 of 4 chunks, 10 rows, 2.0 KiB/s, 1m30s left\nshop.item: copied, 4 of 4 chunks, 40 rows\n", out.String())
}

// A comparison has one bar, which is taken away at its end.
func TestCompareBar(t *testing.T) {
	t.Parallel()
	s := openScreen(t)
	b := newBar(s.terminal)
	b.show(compare.Progress{Table: "shop.item", Number: 1, Tables: 2, Step: "scan", Part: 0.5, Found: 3})
	s.shows("[###############...............]  50 % shop.item (1 of 2), scan, 3 rows differ\x1b[K")
	b.clear()
	s.shows("3 rows differ\x1b[K\r\x1b[K")
}
