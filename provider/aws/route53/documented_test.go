package route53_test

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"

	"github.com/holdfast-go/holdfast/provider/aws/internal/wire"
)

// documented adds to moto what the documentation of AWS says about changes and
// moto leaves out: a batch is applied as a whole or refused; a DELETE must give
// exactly what is there, a CREATE needs that nothing is; a CNAME has nothing
// beside it; each change has an ID and is pending first. What it lets through
// it gives to moto as the UPSERTs and DELETEs that moto understands.
type documented struct {
	t     *testing.T
	owner *route53.Client

	mu      sync.Mutex
	changes map[string]int // ID: how often it was asked for
}

// client speaks to moto, past all rules.
func client(endpoint string) *route53.Client {
	return route53.New(route53.Options{Region: "us-east-1", BaseEndpoint: &endpoint, Credentials: credentials.NewStaticCredentialsProvider("owner", "secret", "")})
}

// A batch is the body of a ChangeResourceRecordSets.
type batch struct {
	XMLName xml.Name `xml:"ChangeResourceRecordSetsRequest"`
	Changes []struct {
		Action string
		Set    struct {
			Name, Type, SetIdentifier string
			TTL                       int64
			Values                    []string `xml:"ResourceRecords>ResourceRecord>Value"`
			Inner                     string   `xml:",innerxml"`
		} `xml:"ResourceRecordSet"`
	} `xml:"ChangeBatch>Changes>Change"`
}

const (
	xmlns   = `xmlns="https://route53.amazonaws.com/doc/2013-04-01/"`
	xmlType = "text/xml"
)

func invalidBatch(message string) *http.Response {
	return wire.Answer(http.StatusBadRequest, xmlType,
		`<?xml version="1.0"?><InvalidChangeBatch `+xmlns+`><Messages><Message>`+message+`</Message></Messages><RequestId>r</RequestId></InvalidChangeBatch>`)
}

func refusal(status int, code, message string) wire.Rule {
	return wire.Answers(status, xmlType, `<?xml version="1.0"?><ErrorResponse `+xmlns+`><Error><Type>Sender</Type><Code>`+code+`</Code><Message>`+message+`</Message></Error><RequestId>r</RequestId></ErrorResponse>`)
}

func (d *documented) rule(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case strings.HasPrefix(r.URL.Path, "/2013-04-01/change/"):
		return d.status(r.URL.Path[len("/2013-04-01/change/"):]), nil
	case r.Method != http.MethodPost || !strings.Contains(r.URL.Path, "/rrset"):
		return next()
	}
	var b batch
	if err := xml.Unmarshal(r.Content, &b); err != nil {
		d.t.Error(err)
		return nil, err
	}
	held, err := d.held(r)
	if err != nil {
		return nil, err
	}
	if message := apply(held, b); message != "" {
		return invalidBatch(message), nil
	}
	r.Content = b.forMoto()
	r.Header.Set("Content-Length", fmt.Sprint(len(r.Content)))
	answer, err := next()
	if err != nil || answer.StatusCode != http.StatusOK {
		return answer, err
	}
	answer.Body.Close()
	if d.changes == nil {
		d.changes = map[string]int{}
	}
	id := fmt.Sprintf("C%013d", len(d.changes))
	d.changes[id] = 0
	return wire.Answer(http.StatusOK, xmlType, `<?xml version="1.0"?><ChangeResourceRecordSetsResponse `+xmlns+`><ChangeInfo><Id>/change/`+id+
		`</Id><Status>PENDING</Status><SubmittedAt>2026-01-02T03:04:05Z</SubmittedAt></ChangeInfo></ChangeResourceRecordSetsResponse>`), nil
}

func (d *documented) status(id string) *http.Response {
	asked, ok := d.changes[id]
	if !ok {
		answer, _ := refusal(http.StatusNotFound, "NoSuchChange", "Could not find resource with ID: "+id)(nil, nil)
		return answer
	}
	d.changes[id]++
	status := "PENDING"
	if asked > 0 {
		status = "INSYNC"
	}
	return wire.Answer(http.StatusOK, xmlType, `<?xml version="1.0"?><GetChangeResponse `+xmlns+`><ChangeInfo><Id>/change/`+id+
		`</Id><Status>`+status+`</Status><SubmittedAt>2026-01-02T03:04:05Z</SubmittedAt></ChangeInfo></GetChangeResponse>`)
}

// A key is what a record set is known by.
type key struct{ name, typ, id string }

// held are the record sets of the zone of a request.
func (d *documented) held(r *wire.Request) (map[key]string, error) {
	zone := strings.Split(r.URL.Path, "/")[3]
	held := map[key]string{}
	pages := route53.NewListResourceRecordSetsPaginator(d.owner, &route53.ListResourceRecordSetsInput{HostedZoneId: &zone})
	for pages.HasMorePages() {
		page, err := pages.NextPage(r.Context())
		if err != nil {
			return nil, err
		}
		for _, rs := range page.ResourceRecordSets {
			held[key{*rs.Name, string(rs.Type), aws.ToString(rs.SetIdentifier)}] = describe(rs)
		}
	}
	return held, nil
}

func describe(rs types.ResourceRecordSet) string {
	var values []string
	for _, r := range rs.ResourceRecords {
		values = append(values, *r.Value)
	}
	return fmt.Sprintf("%d %q", aws.ToInt64(rs.TTL), values)
}

// apply says why a batch is refused, or is empty.
func apply(held map[key]string, b batch) string {
	for _, c := range b.Changes {
		k := key{c.Set.Name, c.Set.Type, c.Set.SetIdentifier}
		is, there := held[k]
		given := fmt.Sprintf("%d %q", c.Set.TTL, c.Set.Values)
		named := fmt.Sprintf("resource record set [name='%s', type='%s']", k.name, k.typ)
		switch c.Action {
		case "DELETE":
			if !there {
				return "Tried to delete " + named + " but it was not found"
			}
			if is != given {
				return "Tried to delete " + named + " but the values provided do not match the current values"
			}
			delete(held, k)
		case "CREATE":
			if there {
				return "Tried to create " + named + " but it already exists"
			}
			held[k] = given
		default:
			return "a swap has no " + c.Action
		}
	}
	for k := range held {
		for other := range held {
			if k.typ == "CNAME" && other.name == k.name && other.typ != "CNAME" {
				return "RRSet of type CNAME with DNS name " + k.name + " is not permitted as it conflicts with other records with the same DNS name"
			}
		}
	}
	return ""
}

func (b batch) forMoto() []byte {
	var s strings.Builder
	s.WriteString(`<ChangeResourceRecordSetsRequest ` + xmlns + `><ChangeBatch><Changes>`)
	for _, c := range b.Changes {
		action := "UPSERT"
		if c.Action == "DELETE" {
			action = c.Action
			if b.creates(c.Set.Name, c.Set.Type) {
				continue
			}
		}
		s.WriteString("<Change><Action>" + action + "</Action><ResourceRecordSet>" + c.Set.Inner + "</ResourceRecordSet></Change>")
	}
	s.WriteString(`</Changes></ChangeBatch></ChangeResourceRecordSetsRequest>`)
	return []byte(s.String())
}

func (b batch) creates(name, typ string) bool {
	for _, c := range b.Changes {
		if c.Action == "CREATE" && c.Set.Name == name && c.Set.Type == typ {
			return true
		}
	}
	return false
}
