package route53_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awsroute53 "github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws/internal/wire"
	"github.com/holdfast-go/holdfast/provider/aws/route53"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// service is moto behind what AWS documents, and a zone in it.
type service struct {
	*wire.Proxy
	*documented
	id, zone string
}

func newService(t *testing.T) *service {
	t.Helper()
	endpoint := moto(t)
	s := &service{wire.New(t, endpoint), &documented{t: t, owner: client(endpoint)}, "", "z" + strings.ToLower(rand.Text()[:8]) + ".example."}
	s.Add(s.rule)
	s.id = s.newZone(t, s.zone, false)
	return s
}

func (s *service) newZone(t *testing.T, name string, private bool) string {
	t.Helper()
	in := &awsroute53.CreateHostedZoneInput{Name: &name, CallerReference: aws.String(rand.Text())}
	if private {
		in.HostedZoneConfig = &types.HostedZoneConfig{PrivateZone: true, Comment: aws.String("private")}
		in.VPC = &types.VPC{VPCId: aws.String("vpc-1"), VPCRegion: "us-east-1"}
	}
	// Once: moto does not know a request by its CallerReference, as Route 53
	// does, and makes a second zone of the same name when it is sent again.
	// It is there, perhaps, though the answer was lost.
	id := func(zone types.HostedZone) string { return strings.TrimPrefix(*zone.Id, "/hostedzone/") }
	for try := 1; ; try++ {
		out, err := s.owner.CreateHostedZone(t.Context(), in, func(o *awsroute53.Options) { o.RetryMaxAttempts = 1 })
		if err == nil {
			return id(*out.HostedZone)
		}
		there, lookErr := s.owner.ListHostedZonesByName(t.Context(), &awsroute53.ListHostedZonesByNameInput{DNSName: &name})
		if lookErr == nil {
			for _, zone := range there.HostedZones {
				if aws.ToString(zone.CallerReference) == *in.CallerReference {
					return id(zone)
				}
			}
		}
		if try == 5 {
			t.Fatal(err, lookErr)
		}
	}
}

// put writes a record set into the zone as AWS would hold it.
func (s *service) put(t *testing.T, rs types.ResourceRecordSet, values ...string) {
	t.Helper()
	for _, v := range values {
		rs.ResourceRecords = append(rs.ResourceRecords, types.ResourceRecord{Value: &v})
	}
	if rs.AliasTarget == nil {
		rs.TTL = aws.Int64(60)
	}
	_, err := s.owner.ChangeResourceRecordSets(t.Context(), &awsroute53.ChangeResourceRecordSetsInput{HostedZoneId: &s.id,
		ChangeBatch: &types.ChangeBatch{Changes: []types.Change{{Action: types.ChangeActionUpsert, ResourceRecordSet: &rs}}}})
	if err != nil {
		t.Fatal(err)
	}
}

func (s *service) open(t *testing.T, change func(*route53.Config)) *route53.Zones {
	t.Helper()
	c := route53.Config{Endpoint: s.URL, Attempts: 3, Credentials: credentials.NewStaticCredentialsProvider("key", "secret", "")}
	if change != nil {
		change(&c)
	}
	z, err := route53.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func (s *service) set(x, typ string, values ...string) *provider.RecordSet {
	return &provider.RecordSet{Name: x + "." + s.zone, Type: typ, TTL: time.Minute, Values: values}
}

func TestDNSProvider(t *testing.T) {
	s := newService(t)
	providertest.TestDNSProvider(t, func(t *testing.T) provider.DNSProvider { return s.open(t, nil) }, providertest.DNSOptions{
		Zone:   s.zone,
		Second: func() (provider.DNSProvider, error) { return s.open(t, nil), nil },
	})
}

// The same suite in a public zone of yours, whose name is in
// HOLDFAST_AWS_ZONE, with the final dot.
func TestAWS(t *testing.T) {
	zone := os.Getenv("HOLDFAST_AWS_ZONE")
	if zone == "" {
		t.Skip("HOLDFAST_AWS_ZONE names no zone")
	}
	open := func() (provider.DNSProvider, error) { return route53.Open(t.Context(), route53.Config{}) }
	providertest.TestDNSProvider(t, func(t *testing.T) provider.DNSProvider {
		z, err := open()
		if err != nil {
			t.Fatal(err)
		}
		return z
	}, providertest.DNSOptions{Zone: zone, Second: open, Settle: 5 * time.Minute})
}

// The request of a swap, byte for byte: what is there is deleted as Route 53
// holds it, then all is created; there is no UPSERT.
func TestSwapRequest(t *testing.T) {
	s := newService(t)
	z := s.open(t, nil)
	s.put(t, types.ResourceRecordSet{Name: aws.String("w." + s.zone), Type: "TXT"}, `"o" "ld"`)
	old, text := s.set("www", "A", "192.0.2.1", "192.0.2.2"), s.set("w", "TXT", "old")
	s.put(t, types.ResourceRecordSet{Name: &old.Name, Type: "A"}, "192.0.2.2", "192.0.2.1")
	_, err := z.Swap(t.Context(),
		provider.Change{New: s.set("new", "CNAME", "target.example.")},
		provider.Change{Old: old, New: s.set("www", "A", "192.0.2.9")},
		provider.Change{Old: text, New: text})
	if err != nil {
		t.Fatal(err)
	}
	sent := s.Seen("POST")
	if len(sent) != 1 || sent[0].URL.Path != "/2013-04-01/hostedzone/"+s.id+"/rrset" {
		t.Fatalf("%d requests change something", len(sent))
	}
	change := func(action, name, values string, typ string) string {
		return "<Change><Action>" + action + "</Action><ResourceRecordSet><Name>" + name + "." + s.zone + "</Name>" + values + "<TTL>60</TTL><Type>" + typ + "</Type></ResourceRecordSet></Change>"
	}
	records := func(values ...string) string {
		b := "<ResourceRecords>"
		for _, v := range values {
			b += "<ResourceRecord><Value>" + v + "</Value></ResourceRecord>"
		}
		return b + "</ResourceRecords>"
	}
	want := `<ChangeResourceRecordSetsRequest xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><ChangeBatch><Changes>` +
		change("DELETE", "www", records("192.0.2.2", "192.0.2.1"), "A") +
		change("DELETE", "w", records("&#34;o&#34; &#34;ld&#34;"), "TXT") +
		change("CREATE", "new", records("target.example."), "CNAME") +
		change("CREATE", "www", records("192.0.2.9"), "A") +
		change("CREATE", "w", records("&#34;o&#34; &#34;ld&#34;"), "TXT") +
		`</Changes></ChangeBatch></ChangeResourceRecordSetsRequest>`
	if got := string(sent[0].Content); got != want {
		t.Errorf("sent\n%s\nwant\n%s", got, want)
	}
}

// What was written in another way is the same record set, and is swapped.
func TestOtherSpellings(t *testing.T) {
	s := newService(t)
	z := s.open(t, nil)
	for i, c := range []struct {
		typ, held, value string
	}{
		{"AAAA", "2001:0DB8:0:0:0:0:0:1", "2001:db8::1"},
		{"CNAME", "Target.Example", "target.example."},
		{"TXT", `"v=spf1 " "-all"`, "v=spf1 -all"},
		{"TXT", `"a\134b\"c\040d"`, `a\b"c d`},
	} {
		rs := s.set(fmt.Sprint("x", i), c.typ, c.value)
		s.put(t, types.ResourceRecordSet{Name: &rs.Name, Type: types.RRType(c.typ)}, c.held)
		got, err := z.Get(t.Context(), rs.Name, rs.Type)
		if err != nil || len(got.Values) != 1 || got.Values[0] != c.value {
			t.Errorf("%s: %q, %v, want %q", c.held, got.Values, err, c.value)
			continue
		}
		if _, err := z.Swap(t.Context(), provider.Change{Old: rs}); err != nil {
			t.Errorf("%s: %v", c.held, err)
		}
	}
	rs := s.set("bytes", "TXT", "x")
	s.put(t, types.ResourceRecordSet{Name: &rs.Name, Type: "TXT"}, `"\344"`)
	if _, err := z.Get(t.Context(), rs.Name, "TXT"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a text that is not ASCII: %v", err)
	}
}

// Names with a wildcard or a slash are sent with codes and come back plain.
func TestNamesWithCodes(t *testing.T) {
	s := newService(t)
	z := s.open(t, nil)
	wild := s.set("*", "A", "192.0.2.1")
	s.put(t, types.ResourceRecordSet{Name: aws.String(`\052.` + s.zone), Type: "A"}, "192.0.2.1")
	if got, err := z.Get(t.Context(), wild.Name, "A"); err != nil || got.Name != wild.Name {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := z.Swap(t.Context(), provider.Change{Old: wild}); err != nil {
		t.Errorf("%v", err)
	}
	slash := s.set("0/25", "CNAME", "1.0/25.example.")
	if _, err := z.Swap(t.Context(), provider.Change{New: slash}); err != nil {
		t.Fatal(err)
	}
	if got, err := z.Get(t.Context(), slash.Name, "CNAME"); err != nil || got.Values[0] != slash.Values[0] {
		t.Errorf("%+v, %v", got, err)
	}
	if sent := s.Seen("POST"); !strings.Contains(string(sent[len(sent)-1].Content), `<Name>0\057`) {
		t.Errorf("sent %s", sent[len(sent)-1].Content)
	}
}

// Record sets that are more than values and a TTL are refused by name, and
// stay as they are whatever is swapped beside them.
func TestSpecialSets(t *testing.T) {
	s := newService(t)
	z := s.open(t, nil)
	for x, rs := range map[string]types.ResourceRecordSet{
		"alias":    {AliasTarget: &types.AliasTarget{DNSName: aws.String("lb.example."), HostedZoneId: aws.String("Z2"), EvaluateTargetHealth: true}},
		"weighted": {SetIdentifier: aws.String("a"), Weight: aws.Int64(10)},
		"failover": {SetIdentifier: aws.String("a"), Failover: types.ResourceRecordSetFailoverPrimary},
		"latency":  {SetIdentifier: aws.String("a"), Region: "eu-west-1"},
		"geo":      {SetIdentifier: aws.String("a"), GeoLocation: &types.GeoLocation{CountryCode: aws.String("CH")}},
		"multi":    {SetIdentifier: aws.String("a"), MultiValueAnswer: aws.Bool(true)},
		"checked":  {HealthCheckId: aws.String("h")},
	} {
		a := s.set(x, "A", "192.0.2.1")
		rs.Name, rs.Type = &a.Name, "A"
		if rs.AliasTarget != nil {
			s.put(t, rs)
		} else {
			s.put(t, rs, "192.0.2.1")
		}
		if rs.SetIdentifier != nil {
			rs.SetIdentifier = aws.String("b")
			s.put(t, rs, "192.0.2.2")
		}
		if _, err := z.Get(t.Context(), a.Name, "A"); !errors.Is(err, errors.ErrUnsupported) || errors.Is(err, provider.ErrNotFound) {
			t.Errorf("%s: get: %v", x, err)
		}
		text := s.set(x, "TXT", "beside")
		for _, c := range []provider.Change{{Old: a}, {New: a}, {Old: a, New: s.set(x, "A", "192.0.2.9")}} {
			if _, err := z.Swap(t.Context(), c, provider.Change{New: text}); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("%s: swap: %v", x, err)
			}
		}
		if n := len(s.Seen("POST")); n != 0 {
			t.Fatalf("%s: %d changes were sent", x, n)
		}
		before := s.count(t, a.Name)
		if _, err := z.Swap(t.Context(), provider.Change{New: text}); err != nil {
			t.Errorf("%s: swap beside it: %v", x, err)
		}
		if _, err := z.Swap(t.Context(), provider.Change{Old: text}); err != nil {
			t.Errorf("%s: swap beside it: %v", x, err)
		}
		if n := s.count(t, a.Name); n != before {
			t.Errorf("%s: %d record sets, were %d", x, n, before)
		}
		s.Clear()
		s.Add(s.rule)
	}
}

// count is how many record sets a name has.
func (s *service) count(t *testing.T, name string) (n int) {
	t.Helper()
	out, err := s.owner.ListResourceRecordSets(t.Context(), &awsroute53.ListResourceRecordSetsInput{HostedZoneId: &s.id})
	if err != nil {
		t.Fatal(err)
	}
	for _, rs := range out.ResourceRecordSets {
		if *rs.Name == name {
			n++
		}
	}
	return n
}

// Each of these is more than a RecordSet can say.
func TestSpecialAttributes(t *testing.T) {
	s := newService(t)
	z := s.open(t, nil)
	a := s.set("special", "A", "192.0.2.1")
	for _, inner := range []string{
		"<SetIdentifier>a</SetIdentifier>", "<Weight>1</Weight>", "<Region>eu-west-1</Region>", "<Failover>PRIMARY</Failover>",
		"<GeoLocation><CountryCode>CH</CountryCode></GeoLocation>", "<GeoProximityLocation><AWSRegion>eu-west-1</AWSRegion></GeoProximityLocation>",
		"<CidrRoutingConfig><CollectionId>c</CollectionId><LocationName>l</LocationName></CidrRoutingConfig>", "<MultiValueAnswer>true</MultiValueAnswer>",
		"<HealthCheckId>h</HealthCheckId>", "<TrafficPolicyInstanceId>i</TrafficPolicyInstanceId>", "",
	} {
		s.Add(func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
			if r.Action != "GET" || !strings.Contains(r.URL.Path, "/rrset") {
				return next()
			}
			return wire.Answer(http.StatusOK, xmlType, `<ListResourceRecordSetsResponse `+xmlns+`><ResourceRecordSets><ResourceRecordSet><Name>`+a.Name+
				`</Name><Type>A</Type><TTL>60</TTL><ResourceRecords><ResourceRecord><Value>192.0.2.1</Value></ResourceRecord></ResourceRecords>`+inner+
				`</ResourceRecordSet></ResourceRecordSets><IsTruncated>false</IsTruncated><MaxItems>300</MaxItems></ListResourceRecordSetsResponse>`), nil
		})
		if _, err := z.Get(t.Context(), a.Name, "A"); errors.Is(err, errors.ErrUnsupported) != (inner != "") {
			t.Errorf("%s: %v", inner, err)
		}
	}
}

// What Route 53 does not take in one batch is refused here.
func TestLimits(t *testing.T) {
	s := newService(t)
	z := s.open(t, nil)
	var many []string
	for i := range 1001 {
		many = append(many, fmt.Sprintf("192.0.%d.%d", i/256, i%256))
	}
	var long []provider.Change
	for i := range 9 {
		long = append(long, provider.Change{New: s.set(fmt.Sprint("t", i), "TXT", strings.Repeat("x", 3700))})
	}
	for name, changes := range map[string][]provider.Change{
		"values":     {{New: s.set("m", "A", many...)}},
		"characters": long,
		"text":       {{New: s.set("t", "TXT", strings.Repeat("x", 4000))}},
	} {
		if _, err := z.Swap(t.Context(), changes...); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if n := len(s.Seen("POST")); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
	if _, err := z.Swap(t.Context(), provider.Change{New: s.set("m", "A", many[:400]...)}, provider.Change{New: s.set("t", "TXT", strings.Repeat("x", 3900))}); err != nil {
		t.Errorf("within the limits: %v", err)
	}
}

// A CNAME has no other record set beside it, neither one that is there nor one
// of the same Swap.
func TestCNAMEIsAlone(t *testing.T) {
	s := newService(t)
	z := s.open(t, nil)
	a, cname := s.set("alone", "A", "192.0.2.1"), s.set("alone", "CNAME", "other.example.com.")
	if _, err := z.Swap(t.Context(), provider.Change{New: a}); err != nil {
		t.Fatal(err)
	}
	n := len(s.Seen("POST"))
	for _, changes := range [][]provider.Change{
		{{New: cname}},
		{{New: s.set("alone", "TXT", "x")}, {New: cname}},
	} {
		if _, err := z.Swap(t.Context(), changes...); err == nil || !strings.Contains(err.Error(), "no other beside it") {
			t.Errorf("%d changes: %v", len(changes), err)
		}
	}
	if len(s.Seen("POST")) != n {
		t.Error("a request was sent")
	}
	if _, err := z.Swap(t.Context(), provider.Change{Old: a}, provider.Change{New: cname}); err != nil {
		t.Errorf("in place of it: %v", err)
	}
}

// A name is in the zone with the longest name, of the kind that is asked for.
func TestZones(t *testing.T) {
	s := newService(t)
	z := s.open(t, nil)
	rs := s.set("a.sub", "A", "192.0.2.1")
	change := provider.Change{New: rs}
	zoneOfLast := func() string { sent := s.Seen("POST"); return strings.Split(sent[len(sent)-1].URL.Path, "/")[3] }
	swap := func(z *route53.Zones, want string) {
		t.Helper()
		if _, err := z.Swap(t.Context(), change); err != nil {
			t.Fatal(err)
		}
		if got := zoneOfLast(); got != want {
			t.Errorf("changed the zone %s, want %s", got, want)
		}
		if _, err := z.Swap(t.Context(), provider.Change{Old: rs}); err != nil {
			t.Fatal(err)
		}
	}
	swap(z, s.id)
	private := s.newZone(t, s.zone, true)
	swap(s.open(t, nil), s.id)
	swap(s.open(t, func(c *route53.Config) { c.Private = true }), private)
	swap(s.open(t, func(c *route53.Config) { c.Zones = []string{private} }), private)
	sub := s.newZone(t, "sub."+s.zone, false)
	swap(s.open(t, nil), sub)
	if _, err := s.open(t, nil).Swap(t.Context(), change, provider.Change{New: s.set("b", "A", "192.0.2.1")}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("changes in two zones: %v", err)
	}
	again := s.newZone(t, "sub."+s.zone, false)
	_, err := s.open(t, nil).Get(t.Context(), rs.Name, "A")
	if err == nil || errors.Is(err, provider.ErrNotFound) || !strings.Contains(err.Error(), sub) || !strings.Contains(err.Error(), again) || !strings.Contains(err.Error(), "Config.Zones") {
		t.Errorf("two zones of one name: %v", err)
	}
	swap(s.open(t, func(c *route53.Config) { c.Zones = []string{again} }), again)

	// A name that only looks as if it were in the zone; a zone made later.
	late := provider.RecordSet{Name: "a.x" + s.zone, Type: "A"}
	if _, err := z.Get(t.Context(), late.Name, "A"); err == nil || errors.Is(err, provider.ErrNotFound) {
		t.Errorf("a name in no zone: %v", err)
	}
	s.newZone(t, "x"+s.zone, false)
	if _, err := z.Get(t.Context(), late.Name, "A"); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("in a zone that was made meanwhile: %v", err)
	}
	if _, err := s.open(t, func(c *route53.Config) { c.Zones = []string{"Z0NONE"} }).Get(t.Context(), rs.Name, "A"); err == nil || errors.Is(err, provider.ErrNotFound) {
		t.Errorf("a zone that is not there: %v", err)
	}
}

// One winner of 32, each round, through two handles.
func TestRace(t *testing.T) {
	s := newService(t)
	handles := []*route53.Zones{s.open(t, nil), s.open(t, nil)}
	last := s.set("www", "A", "192.0.2.255")
	if _, err := handles[0].Swap(t.Context(), provider.Change{New: last}); err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		var won atomic.Pointer[provider.RecordSet]
		var wins atomic.Int32
		var g errgroup.Group
		for i := range 32 {
			g.Go(func() error {
				next := s.set("www", "A", fmt.Sprintf("192.0.%d.%d", round, i))
				_, err := handles[i%2].Swap(t.Context(), provider.Change{Old: last, New: next})
				if err == nil {
					won.Store(next)
					wins.Add(1)
				} else if !errors.Is(err, provider.ErrConflict) {
					return err
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil || wins.Load() != 1 {
			t.Fatalf("%d winners, %v", wins.Load(), err)
		}
		last = won.Load()
		if got, err := handles[1].Get(t.Context(), last.Name, "A"); err != nil || got.Values[0] != last.Values[0] {
			t.Errorf("%+v, %v, and the winner has %v", got, err, last.Values)
		}
	}
}

func TestConfig(t *testing.T) {
	_, err := route53.Open(t.Context(), route53.Config{Zones: []string{"/hostedzone/Z1"}, Private: true, Endpoint: "ftp://x", FIPS: true, Attempts: 1000, CA: []byte("none")})
	if err == nil {
		t.Fatal("no error")
	}
	for _, field := range []string{"Zones", "Private", "Endpoint", "FIPS", "Attempts", "CA"} {
		if !strings.Contains(err.Error(), "route53: Config."+field+":") {
			t.Errorf("%v does not name %s", err, field)
		}
	}
}

// What the zone delegates is in another one, of another account perhaps. Written
// here it would be INSYNC, and nobody would be told.
func TestDelegated(t *testing.T) {
	s := newService(t)
	s.put(t, types.ResourceRecordSet{Name: aws.String("sub." + s.zone), Type: types.RRTypeNs}, "ns.elsewhere.example.")
	z := s.open(t, nil)
	for _, x := range []string{"sub", "www.sub", "_holdfast.www.sub"} {
		rs := s.set(x, "A", "192.0.2.1")
		_, getErr := z.Get(t.Context(), rs.Name, "A")
		_, swapErr := z.Swap(t.Context(), provider.Change{New: s.set("beside", "A", "192.0.2.1")}, provider.Change{New: rs})
		for _, err := range []error{getErr, swapErr} {
			if err == nil || errors.Is(err, provider.ErrNotFound) || errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), "NS records at sub."+s.zone) {
				t.Errorf("%s: %v", x, err)
			}
		}
	}
	if n := len(s.Seen("POST")); n > 0 {
		t.Errorf("%d batches were sent", n)
	}
	// Its zone, made after the zones were listed, is found.
	s.newZone(t, "sub."+s.zone, false)
	if _, err := z.Swap(t.Context(), provider.Change{New: s.set("www.sub", "A", "192.0.2.1")}); err != nil {
		t.Error(err)
	}
}
