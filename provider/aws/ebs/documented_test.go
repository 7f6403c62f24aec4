package ebs_test

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/holdfast-go/holdfast/provider/aws/internal/wire"
)

const (
	home, away = "us-east-1", "eu-west-1"
	xmlns      = `xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"`
)

// documented adds to moto what the documentation of AWS says and moto leaves
// out: a snapshot is pending for a while, and not shown to everybody at once;
// snapshots of several volumes leave out those that are named; a volume has one client token, and needs a snapshot that is complete; a copy
// has a volume ID that means nothing; what is locked is not deleted.
type documented struct {
	mu     sync.Mutex
	hidden time.Duration        // for which a new snapshot is not found by its tags
	made   map[string]time.Time // snapshots
	asked  map[string]int       // how often each was described
	copies map[string]bool
	tokens map[string]token // of volumes
	locked map[string]string
	lost   map[string]bool // snapshots that are not shown at all
	roots  map[string]bool // volumes that instances boot from
}

type token struct{ form, answer string }

// client speaks to moto, past all rules.
func client(endpoint string) *ec2.Client {
	return ec2.New(ec2.Options{Region: home, BaseEndpoint: &endpoint, Credentials: credentials.NewStaticCredentialsProvider("owner", "secret", "")})
}

func refusal(code, message string) *http.Response {
	return wire.Answer(http.StatusBadRequest, "text/xml",
		`<?xml version="1.0"?><Response><Errors><Error><Code>`+code+`</Code><Message>`+message+`</Message></Error></Errors><RequestID>r</RequestID></Response>`)
}

func refuse(code, message string) wire.Rule {
	return func(*wire.Request, func() (*http.Response, error)) (*http.Response, error) {
		return refusal(code, message), nil
	}
}

func (d *documented) rule(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
	form, err := url.ParseQuery(string(r.Content))
	if err != nil {
		return nil, err
	}
	switch r.Action {
	case "CreateSnapshots":
		return d.createSnapshots(form, next)
	case "CreateSnapshot", "CopySnapshot":
		answer, body, err := read(next)
		if m := snapshotID.FindStringSubmatch(body); err == nil && m != nil {
			d.mu.Lock()
			d.made[m[1]], d.copies[m[1]] = time.Now(), r.Action == "CopySnapshot"
			d.mu.Unlock()
		}
		return answer, err
	case "DescribeSnapshots":
		answer, body, err := read(next)
		if err != nil || answer.StatusCode != http.StatusOK {
			return answer, err
		}
		return wire.Answer(http.StatusOK, "text/xml", d.shown(body, form.Get("SnapshotId.1") == "")), nil
	case "CreateVolume":
		return d.createVolume(r.Region(), form, next)
	case "DeleteSnapshot":
		d.mu.Lock()
		state := d.locked[form.Get("SnapshotId")]
		d.mu.Unlock()
		if state != "" {
			return refusal("OperationNotPermitted", "in words nobody has seen"), nil
		}
	case "DescribeLockedSnapshots":
		d.mu.Lock()
		defer d.mu.Unlock()
		id, items := form.Get("SnapshotId.1"), ""
		if state := d.locked[id]; state != "" {
			items = "<item><snapshotId>" + id + "</snapshotId><lockState>" + state + "</lockState><lockExpiresOn>2030-01-02T03:04:05.000Z</lockExpiresOn></item>"
		}
		return wire.Answer(http.StatusOK, "text/xml", `<DescribeLockedSnapshotsResponse `+xmlns+`><snapshotSet>`+items+`</snapshotSet></DescribeLockedSnapshotsResponse>`), nil
	}
	return next()
}

// createSnapshots leaves out what moto does not.
func (d *documented) createSnapshots(form url.Values, next func() (*http.Response, error)) (*http.Response, error) {
	excluded := map[string]bool{}
	for k, v := range form {
		if strings.HasPrefix(k, "InstanceSpecification.ExcludeDataVolumeId.") {
			if excluded[v[0]] = true; d.roots[v[0]] {
				return refusal("InvalidParameterCombination", "The root volume is left out by ExcludeBootVolume"), nil
			}
		}
	}
	answer, body, err := read(next)
	if err != nil || answer.StatusCode != http.StatusOK {
		return answer, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	body = item.ReplaceAllStringFunc(body, func(s string) string {
		id := snapshotID.FindStringSubmatch(s)[1]
		if excluded[volumeID.FindStringSubmatch(s)[1]] {
			d.lost[id] = true
			s = ""
		}
		d.made[id] = now
		return s
	})
	return wire.Answer(http.StatusOK, "text/xml", body), nil
}

func read(next func() (*http.Response, error)) (*http.Response, string, error) {
	answer, err := next()
	if err != nil {
		return nil, "", err
	}
	b, err := io.ReadAll(answer.Body)
	answer.Body = io.NopCloser(bytes.NewReader(b))
	return answer, string(b), err
}

var (
	snapshotID = regexp.MustCompile(`<snapshotId>(snap-[0-9a-f]+)</snapshotId>`)
	item       = regexp.MustCompile(`(?s)<item>\s*<snapshotId>.*?</tagSet>\s*</item>`)
	startTime  = regexp.MustCompile(`<startTime>[^<]*</startTime>`)
	createTime = regexp.MustCompile(`<createTime>[^<]*</createTime>`)
	volumeID   = regexp.MustCompile(`<volumeId>([^<]*)</volumeId>`)
)

// shown is what EC2 would show of a listing.
func (d *documented) shown(body string, listing bool) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return item.ReplaceAllStringFunc(body, func(s string) string {
		id := snapshotID.FindStringSubmatch(s)[1]
		made, ok := d.made[id]
		switch {
		case !ok:
			return s
		case listing && time.Since(made) < d.hidden, d.lost[id]:
			return ""
		case d.copies[id]:
			s = volumeID.ReplaceAllString(s, "<volumeId>vol-ffffffff</volumeId>")
		}
		s = startTime.ReplaceAllString(s, "<startTime>"+made.UTC().Format("2006-01-02T15:04:05.000Z")+"</startTime>") // moto leaves out the milliseconds
		if d.asked[id]++; d.asked[id] <= 2 {
			s = strings.NewReplacer("<status>completed<", "<status>pending<", "<progress>100%<", "<progress>"+[]string{"", "0", "100"}[d.asked[id]]+"%<").Replace(s)
		}
		return s
	})
}

func (d *documented) createVolume(region string, form url.Values, next func() (*http.Response, error)) (*http.Response, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if snap := form.Get("SnapshotId"); d.asked[snap] < 2 && !d.made[snap].IsZero() {
		return refusal("IncorrectState", "Snapshot is in invalid state - pending"), nil
	}
	given := maps.Clone(form)
	delete(given, "ClientToken")
	key := region + form.Get("ClientToken")
	if t, ok := d.tokens[key]; ok {
		if t.form != given.Encode() {
			return refusal("IdempotentParameterMismatch", "The client token you have provided is associated with a resource that is already deleted or has other parameters."), nil
		}
		return wire.Answer(http.StatusOK, "text/xml", t.answer), nil
	}
	answer, body, err := read(next)
	if err == nil && answer.StatusCode == http.StatusOK {
		d.tokens[key] = token{given.Encode(), body}
	}
	return answer, err
}

// pass lets time pass for all snapshots.
func (d *documented) pass(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, t := range d.made {
		d.made[id] = t.Add(-by)
	}
}

func newDocumented(t *testing.T) *documented {
	t.Helper()
	return &documented{made: map[string]time.Time{}, asked: map[string]int{}, copies: map[string]bool{}, tokens: map[string]token{}, locked: map[string]string{}, lost: map[string]bool{}, roots: map[string]bool{}}
}
