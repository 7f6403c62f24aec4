package remote

import (
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

func TestRetention(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	gov := provider.Retention{Mode: provider.Governance, Until: now}
	com := provider.Retention{Mode: provider.Compliance, Until: now}
	later := provider.Retention{Mode: provider.Governance, Until: now.Add(1)}
	for _, c := range []struct {
		new, old provider.Retention
		want     bool
	}{
		{gov, provider.Retention{}, false}, {gov, gov, false}, {com, gov, false}, {later, gov, false},
		{gov, com, true}, {gov, later, true}, {com, later, true}, {later, com, true}, {provider.Retention{}, gov, true},
	} {
		if got := Weaker(c.new, c.old); got != c.want {
			t.Errorf("%v after %v: weaker is %v", c.new, c.old, got)
		}
	}
	for _, bad := range []provider.Retention{{Mode: "other", Until: now}, {Mode: provider.Governance}, {Until: now}} {
		if CheckRetention(bad) == nil || CheckLock(bad) == nil {
			t.Errorf("%v is taken", bad)
		}
	}
	if CheckRetention(provider.Retention{}) != nil || CheckLock(provider.Retention{}) == nil || CheckRetention(gov) != nil || CheckLock(com) != nil {
		t.Error("zero is no lock, and the others are retentions")
	}
	if got := WholeSeconds(now.Add(1)); !got.Equal(now.Add(time.Second)) || !WholeSeconds(now).Equal(now) || got.Location() != time.UTC {
		t.Errorf("%v", got)
	}
}
