package report

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// grouped writes n with commas between thousands.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// sized writes a number of bytes with three digits: "1.37 GiB".
func sized(n int64) string {
	if n < 1024 {
		return grouped(n) + " B"
	}
	f, unit := float64(n), 0
	for f >= 1023.5 && unit < 6 {
		f /= 1024
		unit++
	}
	digits := 2
	switch {
	case f >= 99.95:
		digits = 0
	case f >= 9.995:
		digits = 1
	}
	return strconv.FormatFloat(f, 'f', digits, 64) + " " + []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}[unit]
}

// instant writes a time to the second, or to the millisecond if it has any.
// A line may break after the date only.
func instant(t time.Time) string {
	layout := "2006-01-02 15:04:05\u00a0UTC"
	if t.Nanosecond() >= int(time.Millisecond) {
		layout = "2006-01-02 15:04:05.000\u00a0UTC"
	}
	return t.UTC().Format(layout)
}

// visible spells out what would not show or would change how the rest shows:
// control characters, marks of direction and other formatting characters, a
// pile of combining marks. Line feed and tab stay, and so do the joiners that
// ordinary scripts need.
func visible(s string) string {
	var b strings.Builder
	marks := 0
	for _, r := range strings.ReplaceAll(s, "\r\n", "\n") {
		if unicode.In(r, unicode.Mn, unicode.Me) {
			marks++
		} else {
			marks = 0
		}
		switch {
		case r == '\n', r == '\t', r == 0x200C, r == 0x200D:
			b.WriteRune(r)
		case marks > 3, unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Cs):
			fmt.Fprintf(&b, "‹U+%04X›", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// clip shortens s to n characters and says by how much; the twin has the rest.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	total := utf8.RuneCountInString(s)
	if total <= n {
		return s
	}
	for i := range s {
		if n == 0 {
			return fmt.Sprintf("%s… (%s more characters in the JSON twin)", s[:i], grouped(int64(total-utf8.RuneCountInString(s[:i]))))
		}
		n--
	}
	return s
}

// tidy changes v in place, throughout: times to UTC, nil lists to empty ones,
// and strings by text.
func tidy(v reflect.Value, text func(string) string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			tidy(v.Elem(), text)
		}
	case reflect.Slice:
		if v.IsNil() {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		}
		for i := range v.Len() {
			tidy(v.Index(i), text)
		}
	case reflect.String:
		v.SetString(text(v.String()))
	case reflect.Struct:
		if t, ok := v.Interface().(time.Time); ok {
			v.Set(reflect.ValueOf(t.UTC().Round(0)))
			return
		}
		for i := range v.NumField() {
			tidy(v.Field(i), text)
		}
	}
}
