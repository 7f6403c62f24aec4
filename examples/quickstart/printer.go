package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// A printer writes the story: one line per fact with the time since the
// beginning, and on a terminal a line that shows what is waited for. It is
// safe for concurrent use.
type printer struct {
	out      io.Writer
	began    time.Time
	terminal bool

	mu      sync.Mutex
	waiting string // the line that is on the terminal without an end
}

func newPrinter(out *os.File, began time.Time) *printer {
	fi, err := out.Stat()
	return &printer{out: out, began: began, terminal: err == nil && fi.Mode()&os.ModeCharDevice != 0}
}

func (p *printer) line(mark, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	text := fmt.Sprintf("%s %s%s", p.elapsed(), mark, fmt.Sprintf(format, args...))
	fmt.Fprintln(p.out, strings.TrimRight(text, " "))
	if p.waiting != "" {
		fmt.Fprint(p.out, p.waiting)
	}
}

func (p *printer) elapsed() string {
	return fmt.Sprintf("%6.1fs", time.Since(p.began).Seconds())
}

func (p *printer) erase() {
	if p.waiting != "" {
		fmt.Fprintf(p.out, "\r%s\r", strings.Repeat(" ", len([]rune(p.waiting))))
	}
}

// stage begins a stage of the story.
func (p *printer) stage(i, n int, title string) {
	fmt.Fprintln(p.out)
	p.line("", "%2d/%d  %s", i, n, title)
}

// ok tells a fact that was checked, miss a promise that was not kept, note
// what is only told.
func (p *printer) ok(format string, args ...any)   { p.line("   ✓ ", format, args...) }
func (p *printer) miss(format string, args ...any) { p.line("   ✗ ", format, args...) }
func (p *printer) note(format string, args ...any) { p.line("     ", format, args...) }

// wait shows, on a terminal only, how far something has come: done of total,
// or without a total just what it is. The func it returns removes the line.
func (p *printer) wait(what string) (update func(done, total float64), stop func()) {
	show := func(text string) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.terminal {
			return
		}
		p.erase()
		p.waiting = text
		fmt.Fprint(p.out, text)
	}
	show(p.elapsed() + "     … " + what)
	return func(done, total float64) {
		const width = 24
		full := 0
		if total > 0 {
			full = int(width * min(1, done/total))
		}
		show(fmt.Sprintf("%s     %s%s %s", p.elapsed(), strings.Repeat("█", full), strings.Repeat("░", width-full), what))
	}, func() { show("") }
}

// size writes bytes for people.
func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

// short writes a length of time for people.
func short(d time.Duration) string {
	switch {
	case d >= time.Minute:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(100 * time.Microsecond).String()
}
