package gcp

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"cloud.google.com/go/storage"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// checkKey refuses, beyond what no store takes, the one prefix that the service
// keeps for itself.
func checkKey(key string) error {
	if strings.HasPrefix(key, ".well-known/acme-challenge/") {
		return provider.ErrInvalidKey
	}
	return remote.CheckKey(key)
}

// The Version of an object is its generation, which the service never gives
// twice to a key. Changes of metadata and retention leave it.
func versionOf(generation int64) provider.Version {
	return provider.Version(strconv.FormatInt(generation, 10))
}

// generationOf is 0, which no object has, for what is none of ours.
func generationOf(v provider.Version) int64 {
	g, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil || g <= 0 || versionOf(g) != v {
		return 0
	}
	return g
}

// modes: anybody with the permission to override can shorten an unlocked
// retention, nobody a locked one.
var modes = map[provider.LockMode]string{provider.Governance: "Unlocked", provider.Compliance: "Locked"}

func retentionTo(r provider.Retention) *storage.ObjectRetention {
	if r.IsZero() {
		return nil
	}
	return &storage.ObjectRetention{Mode: modes[r.Mode], RetainUntil: r.Until}
}

// ownRetention is what Retain or Lock gave the object, if it is still in force.
func ownRetention(a *storage.ObjectAttrs, now time.Time) provider.Retention {
	if a.Retention == nil || !now.Before(a.Retention.RetainUntil) {
		return provider.Retention{}
	}
	r := provider.Retention{Mode: provider.Governance, Until: a.Retention.RetainUntil.UTC()}
	if strings.EqualFold(a.Retention.Mode, modes[provider.Compliance]) {
		r.Mode = provider.Compliance
	}
	return r
}

// retentionOf is that of the object itself, or else what the policy of the
// bucket gives it. Whether that can be shortened is a matter of the bucket.
func retentionOf(a *storage.ObjectAttrs, now time.Time) provider.Retention {
	if own := ownRetention(a, now); !own.IsZero() {
		return own
	}
	if now.Before(a.RetentionExpirationTime) {
		return provider.Retention{Mode: provider.Governance, Until: a.RetentionExpirationTime.UTC()}
	}
	return provider.Retention{}
}

// held: it is under a retention or a hold, and must stay.
func held(a *storage.ObjectAttrs, now time.Time) bool {
	return a.TemporaryHold || a.EventBasedHold || !retentionOf(a, now).IsZero()
}

// found is what the service tells of an object.
type found struct {
	provider.Info
	*storage.ObjectAttrs
	write string    // the name of the Put that wrote it
	now   time.Time // by the service's clock
}

func foundOf(a *storage.ObjectAttrs, now time.Time) found {
	f := found{Info: listed(a), ObjectAttrs: a, now: now}
	f.Info.Meta, f.Info.SHA256, f.write = remote.DecodeMeta(a.Metadata)
	f.Info.Retain = retentionOf(a, now)
	return f
}

func listed(a *storage.ObjectAttrs) provider.Info {
	return provider.Info{Key: a.Name, Size: a.Size, Version: versionOf(a.Generation), Modified: a.Created.UTC()}
}

// wholeRunes is s without the beginning of a character at its end: the service
// takes text only, and filters by the rest.
func wholeRunes(s string) string {
	for i := range min(len(s), utf8.UTFMax) {
		if cut := s[:len(s)-i]; utf8.ValidString(cut) {
			return cut
		}
	}
	for i, r := range s {
		if r == utf8.RuneError {
			return s[:i]
		}
	}
	return s
}
