package retention_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-go/holdfast/retention"
)

func TestValidateNamesFields(t *testing.T) {
	err := retention.Policy{
		KeepLast: -2, Hourly: -3, Daily: -4, Weekly: -5, Monthly: -6, Yearly: -7,
		KeepWithin: -1, MinAge: -1, MaxAge: -1, MaxSkew: -1, MaxDelay: -1, KeepTags: []string{""},
	}.Validate()
	for _, field := range []string{"keep_last", "hourly", "daily", "weekly", "monthly", "yearly", "keep_within", "min_age", "max_age", "max_skew", "max_delay", "keep_tags[0]"} {
		if err == nil || !strings.Contains(err.Error(), field+":") {
			t.Errorf("%q is not named in: %v", field, err)
		}
	}
	for want, p := range map[string]retention.Policy{
		"no rule keeps anything":   {},
		"policy: no rule":          {MaxAge: retention.Days90},
		"max_age: 7d is less than": {MinAge: retention.Days30, MaxAge: retention.Days7},
		"keep_within 30d":          {KeepWithin: retention.Days30, MaxAge: retention.Days7},
	} {
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", p, err, want)
		}
	}
	for _, p := range []retention.Policy{
		{KeepLast: 1}, {Yearly: retention.Unlimited}, {KeepTags: []string{"a"}}, {MinAge: retention.Days7},
		{MinAge: retention.Days30, MaxAge: retention.Days30}, {KeepWithin: 1},
	} {
		if err := p.Validate(); err != nil {
			t.Errorf("%v: %v", p, err)
		}
	}
}

func TestPolicyText(t *testing.T) {
	p := retention.Policy{
		KeepLast: 3, Daily: 7, Yearly: retention.Unlimited, KeepWithin: retention.Days30, KeepTags: []string{"a", "b"},
		MinAge: retention.Days7, MaxAge: retention.Days365,
	}
	if got, want := p.String(), "last 3, daily 7, yearly all, within 30d, tags a b, at least 7d, at most 365d"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := (retention.Policy{}).String(); got != "keep nothing" {
		t.Error(got)
	}
	text := `{"keep_last":3,"daily":7,"yearly":-1,"keep_within":"30d","keep_tags":["a","b"],"min_age":"7d","max_age":"365d"}`
	b, err := json.Marshal(p)
	if err != nil || string(b) != text {
		t.Errorf("%s, %v, want %s", b, err, text)
	}
	var back retention.Policy
	if err := json.Unmarshal(b, &back); err != nil || !cmp.Equal(back, p) {
		t.Errorf("%+v, %v", back, err)
	}
	y, err := yaml.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	back = retention.Policy{}
	if err := yaml.UnmarshalWithOptions(y, &back, yaml.Strict()); err != nil || !cmp.Equal(back, p) || !strings.Contains(string(y), "min_age: 7d\n") {
		t.Errorf("%s\n%+v, %v", y, back, err)
	}
}

func TestParseSpan(t *testing.T) {
	for text, want := range map[string]retention.Span{
		"30d": retention.Days30, "1w": retention.Days7, "1y": retention.Days365, "1y1w1d1h": 373*retention.Day + retention.Span(time.Hour),
		"36h": 36 * retention.Span(time.Hour), "90m": retention.Span(90 * time.Minute), "0s": 0, "-1d": -retention.Day,
	} {
		if got, err := retention.ParseSpan(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "-", "d", "30", "1d2w", "1.5d", "--1d", "1d-1h", "1d+1h", "99999999y", "2147483647d2147483647h", "x"} {
		if got, err := retention.ParseSpan(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
	for want, span := range map[string]retention.Span{
		"1d12h": 36 * retention.Span(time.Hour), "1h30m": retention.Span(90 * time.Minute), "0s": 0, "10m": retention.Span(10 * time.Minute),
		"1d0.5s": retention.Day + retention.Span(500*time.Millisecond), "-7d": -retention.Days7, "10h": retention.Span(10 * time.Hour),
	} {
		want = strings.ReplaceAll(want, "0.5s", "500ms")
		if got := span.String(); got != want {
			t.Errorf("%d: %s, want %s", span, got, want)
		}
	}
	if got := retention.Span(math.MinInt64).String(); !strings.HasPrefix(got, "-106751d") {
		t.Error(got)
	}
}

func FuzzParseSpan(f *testing.F) {
	for _, s := range []string{"30d", "1y2w3d4h5m6s", "-1d", "9999y", "1e3s", "d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		span, err := retention.ParseSpan(text)
		if err != nil {
			return
		}
		back, err := retention.ParseSpan(span.String())
		if err != nil || back != span {
			t.Errorf("%q is %d, written %s, read %d, %v", text, span, span, back, err)
		}
	})
}

// FuzzApply looks for decisions that break a promise, whatever the dates.
func FuzzApply(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, 3, 7, int64(time.Hour), int64(0))
	f.Add([]byte("some points of some time"), -1, 0, int64(0), int64(retention.Days30))
	f.Fuzz(func(t *testing.T, dates []byte, last, daily int, within, maxAge int64) {
		var points []retention.Point
		for i := 0; i+3 < len(dates) && i < 400; i += 4 {
			moment := now.Add(time.Duration(int8(dates[i])) * day).Add(time.Duration(dates[i+1]) * time.Minute)
			points = append(points, retention.Point{
				ID: string(rune('0' + i)), Time: moment, Stored: moment.Add(time.Duration(int8(dates[i+2])) * time.Hour),
				Proven: dates[i+3]&1 > 0, Pinned: dates[i+3]&30 == 30, Group: string(rune('a' + dates[i+3]>>7)),
			})
		}
		p := retention.Policy{KeepLast: last, Daily: daily, KeepWithin: retention.Span(within), MaxAge: retention.Span(maxAge)}
		ds, err := retention.Apply(points, self, p, now)
		if p.Validate() != nil {
			if err == nil {
				t.Fatal("a faulty policy was applied")
			}
			return
		}
		want, empty := oracle(points, p)
		if empty != (err != nil) {
			t.Fatalf("%v, the oracle says %v", err, empty)
		}
		if err == nil && !cmp.Equal(want, verdicts(ds)) {
			t.Fatal(cmp.Diff(want, verdicts(ds)))
		}
	})
}
