package report

import (
	"html/template"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
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

// A cell is one value, or a List of them. Lines are remarks below it.
type cell struct {
	Text  string
	Mark  mark
	Num   bool // right-aligned, never broken
	Whole bool // never broken
	Code  bool // monospaced
	Quiet bool // an absence, not a value
	List  []string
	Lines []string
	Links []link
}

// Keep reports whether the text must stay on one line: whoever reads a table
// reads a short name as one thing.
func (c cell) Keep() bool { return c.Whole || utf8.RuneCountInString(c.Text) <= 14 }

// Long reports whether there is a word that may be broken anywhere, because
// it would push the other columns off the page.
func (c cell) Long() bool {
	for _, s := range append([]string{c.Text}, c.List...) {
		for w := range strings.FieldsSeq(s) {
			if utf8.RuneCountInString(w) > 20 {
				return true
			}
		}
	}
	return false
}

type link struct{ ID, Text string }

type fact struct {
	Name  string
	Value cell
	Wide  bool // over the whole width
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

// Small reports whether the table is to stand on one sheet of paper.
func (t table) Small() bool {
	details := slices.ContainsFunc(t.Rows, func(r row) bool { return len(r.Detail) > 0 })
	return len(t.Rows) <= 12 && !details
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
	Sums   []table // before the charts
	Charts *charts
	Tables []table
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

func (s section) Numbered() string { return strconv.Itoa(s.Number) + "\u00a0" + s.Title }

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

// exact is a span that is not rounded.
func exact(d *Duration, none string) cell {
	c := span(d, none)
	if d != nil {
		c.Text = d.exact()
	}
	return c
}

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
			c.List = append(c.List, "… "+grouped(int64(len(list)-i))+" more in the JSON twin")
			break
		}
		c.List = append(c.List, clip(s, shortText))
	}
	if len(list) == 0 {
		return txt("")
	}
	return c
}

// limited keeps the first n rows and says how many are left to the twin.
func limited[T any](list []T, n int) (shown []T, more string) {
	if len(list) <= n {
		return list, ""
	}
	return list[:n], "and " + grouped(int64(len(list)-n)) + " more, which are in the JSON twin"
}
