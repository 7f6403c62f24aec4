package report

import (
	"html/template"
	"strconv"
	"time"
)

// The page is built in two steps: Go makes sections of a few plain shapes
// (facts, tables, lists, figures), and the template knows only the shapes. So
// every text takes the same way through the escaper.

type view struct {
	Report    *Report
	Findings  Findings
	Sum       string
	HashMeta  template.HTML
	Renderer  template.HTML
	Style     template.CSS
	StyleHash string
	Head      []fact
	Tiles     []tile
	Sections  []section
}

// A mark is a shape beside a word, so that no state is told by colour alone.
type mark string

const (
	noMark   mark = ""
	okMark   mark = "ok"   // filled disc with a tick
	badMark  mark = "bad"  // filled square with a cross
	openMark mark = "open" // dashed ring
	warnMark mark = "warn" // triangle
	pastMark mark = "past" // bar
)

// A cell is one value. Text is short; Lines follow it, each on its own.
type cell struct {
	Text  string
	Mark  mark
	Num   bool // right-aligned, never broken
	Code  bool // monospaced
	Quiet bool // an absence, not a value
	Lines []string
	Links []link
}

type link struct{ ID, Text string }

type fact struct {
	Name  string
	Value cell
}

// A tile is one of the few numbers at the top.
type tile struct {
	Name, Value, Note string
	Mark              mark
}

type table struct {
	Caption string
	Head    []column
	Rows    []row
	More    string // about rows left to the twin
}

type column struct {
	Name string
	Num  bool
}

type row struct {
	Cells  []cell
	Detail []fact // shown over the whole width below the row, word for word
}

// A section has a number by its place. None stands in place of everything
// else if there is nothing to show.
type section struct {
	Number int
	ID     string
	Title  string
	Lead   string
	None   string
	Facts  []fact
	Gantt  *gantt
	Tables []table
	Charts *charts
	Signs  []SignOff
	Code   string // a command to copy
	Notes  []string
	Hollow bool // there are rows, but they are no evidence of anything
}

// holds reports whether the section is evidence.
func (s section) holds() bool {
	rows := 0
	for _, t := range s.Tables {
		rows += len(t.Rows)
	}
	return !s.Hollow && (rows > 0 || s.Gantt != nil || s.ID == "not-tested")
}

// Empty reports whether there is nothing to show but None.
func (s section) Empty() bool { return s.None != "" && !s.holds() }

func (s section) Numbered() string { return strconv.Itoa(s.Number) + " " + s.Title }

const (
	shortText = 400  // longest text in a cell or list
	longText  = 4000 // longest piece of evidence
)

func txt(s string) cell {
	if s == "" {
		return cell{Text: "—", Quiet: true}
	}
	return cell{Text: clip(s, shortText)}
}

func code(s string) cell {
	c := txt(s)
	c.Code = !c.Quiet
	return c
}

func marked(m mark, s string) cell { return cell{Text: s, Mark: m} }

func num(n int64) cell { return cell{Text: grouped(n), Num: true} }

func size(n int64) cell { return cell{Text: sized(n), Num: true} }

func span(d *Duration, none string) cell {
	if d == nil {
		return cell{Text: none, Num: true, Quiet: true}
	}
	return cell{Text: d.String(), Num: true}
}

func when(t *time.Time, none string) cell {
	if t == nil || t.IsZero() {
		return cell{Text: none, Quiet: true}
	}
	return cell{Text: instant(*t)}
}

func columns(names ...string) []column {
	var cs []column
	for _, n := range names {
		if n[0] == '#' {
			cs = append(cs, column{Name: n[1:], Num: true})
		} else {
			cs = append(cs, column{Name: n})
		}
	}
	return cs
}

func lines(list []string) cell {
	c := cell{}
	for i, s := range list {
		if i == 8 && len(list) > 9 {
			c.Lines = append(c.Lines, "… "+grouped(int64(len(list)-i))+" more in the JSON twin")
			break
		}
		c.Lines = append(c.Lines, clip(s, shortText))
	}
	if len(list) == 0 {
		return txt("")
	}
	c.Text, c.Lines = c.Lines[0], c.Lines[1:]
	return c
}

// limited keeps the first n rows and says how many are left to the twin.
func limited[T any](list []T, n int) (shown []T, more string) {
	if len(list) <= n {
		return list, ""
	}
	return list[:n], "and " + grouped(int64(len(list)-n)) + " more, which are in the JSON twin"
}
