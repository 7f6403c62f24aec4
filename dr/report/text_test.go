package report

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func TestDurationText(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		d            time.Duration
		short, exact string
	}{
		{0, "0 s", "0 s"},
		{1, "1 ns", "1 ns"},
		{812 * time.Microsecond, "812 µs", "812 µs"},
		{1500 * time.Nanosecond, "2 µs", "1.5 µs"},
		{40*time.Millisecond + 1, "40 ms", "40.000001 ms"},
		{999_600 * time.Microsecond, "1 s", "999.6 ms"},
		{1280 * time.Millisecond, "1.3 s", "1.28 s"},
		{59_960 * time.Millisecond, "1 min", "59.96 s"},
		{time.Minute, "1 min", "1 min"},
		{4*time.Minute + 41*time.Second + 250*time.Millisecond, "4 min 41.3 s", "4 min 41.25 s"},
		{59*time.Minute + 59*time.Second + 990*time.Millisecond, "1 h", "59 min 59.99 s"},
		{time.Hour + 15*time.Minute + 1, "1 h 15 min", "1 h 15 min 0.000000001 s"},
		{47*time.Hour + 59*time.Minute + 31*time.Second, "2 d", "1 d 23 h 59 min 31 s"},
		{6*day + 3*time.Hour, "6 d 3 h", "6 d 3 h"},
		{-11250 * time.Millisecond, "−11.3 s", "−11.25 s"},
		{-time.Millisecond, "−1 ms", "−1 ms"},
	} {
		if got := Duration(c.d).String(); got != c.short {
			t.Errorf("%d: %q, want %q", c.d, got, c.short)
		}
		if got := Duration(c.d).exact(); got != c.exact {
			t.Errorf("%d exact: %q, want %q", c.d, got, c.exact)
		}
	}
}

func FuzzDuration(f *testing.F) {
	for _, n := range []int64{0, 1, -1, 1e9, -1e9 - 1, math.MaxInt64, math.MinInt64 + 1, math.MinInt64} {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, n int64) {
		b, err := json.Marshal(Duration(n))
		if err != nil {
			t.Fatal(err)
		}
		var got Duration
		err = json.Unmarshal(b, &got)
		if n == math.MinInt64 {
			return // its absolute value is out of range: refused, see below
		}
		if err != nil || got != Duration(n) {
			t.Errorf("%d became %s, read as %d, %v", n, b, got, err)
		}
	})
}

func TestDurationRefuses(t *testing.T) {
	for _, s := range []string{`1e3`, `"5"`, `1.`, `1.0000000001`, `9223372036854775808`, `9223372037`, `-9223372036.854775808`, `1.+1`, `1.-1`, `--1`, `true`} {
		d := Duration(7)
		if err := json.Unmarshal([]byte(s), &d); err == nil {
			t.Errorf("%s was read as %d ns", s, d)
		}
	}
}

func TestSizesAndCounts(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1,023 B", 1024: "1.00 KiB", 10_230: "9.99 KiB", 10_240: "10.0 KiB",
		1<<20 - 1: "1.00 MiB", 100 << 20: "100 MiB", 1023 << 20: "1023 MiB", 1<<40 + 1<<39: "1.50 TiB", math.MaxInt64: "8.00 EiB"} {
		if got := sized(n); got != want {
			t.Errorf("sized(%d) = %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 48211904: "48,211,904", -1000: "-1,000", -100: "-100"} {
		if got := grouped(n); got != want {
			t.Errorf("grouped(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestVisible(t *testing.T) {
	for in, want := range map[string]string{
		"plain\ttext\nline":         "plain\ttext\nline",
		"dos\r\nline":               "dos\nline",
		"over\rwrite":               "over‹U+000D›write",
		"\x1b[31mred":               "‹U+001B›[31mred",
		"nul\x00":                   "nul‹U+0000›",
		"evil\u202etxt.exe":         "evil‹U+202E›txt.exe",
		"\u2066isolate\u2069":       "‹U+2066›isolate‹U+2069›",
		"soft\u00adhyphen\ufeff":    "soft‹U+00AD›hyphen‹U+FEFF›",
		"line\u2028sep":             "line‹U+2028›sep",
		"می\u200cخواهم":             "می\u200cخواهم", // the joiner is part of the word
		"שלום":                      "שלום",
		"e\u0301":                   "e\u0301",
		"z\u0301\u0301\u0301\u0301": "z\u0301\u0301\u0301‹U+0301›",
		"tag\U000e0041":             "tag‹U+E0041›",
	} {
		if got := visible(in); got != want {
			t.Errorf("visible(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzVisible(f *testing.F) {
	f.Add("a\u202eb\x00")
	f.Fuzz(func(t *testing.T, s string) {
		s = strings.ToValidUTF8(s, "\ufffd") // the twin holds nothing else
		for _, r := range visible(s) {
			if r != '\n' && r != '\t' && r != 0x200C && r != 0x200D && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
				t.Errorf("%q: %U is left", s, r)
			}
		}
	})
}

func TestClip(t *testing.T) {
	if got := clip("äöü", 3); got != "äöü" {
		t.Errorf("clip of what fits: %q", got)
	}
	got := clip(strings.Repeat("ä", 5000), 4000)
	if want := strings.Repeat("ä", 4000) + "… (1,000 more characters in the JSON twin)"; got != want {
		t.Errorf("clip: %d characters ending in %q", utf8.RuneCountInString(got), got[len(got)-50:])
	}
}
