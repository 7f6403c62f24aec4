package arc_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"testing"
)

// model is the description of the API by AWS, testdata/api-2.json, which is
// models/apis/route53-recovery-cluster/2019-12-02/api-2.json of
// github.com/aws/aws-sdk-go v1.55.8 (Apache License 2.0).
type model struct {
	Metadata   struct{ JSONVersion, Protocol, SigningName, TargetPrefix string }
	Operations map[string]struct {
		HTTP          struct{ Method, RequestURI string }
		Input, Output struct{ Shape string }
		Errors        []struct{ Shape string }
	}
	Shapes map[string]shape
}

type shape struct {
	Type     string
	Required []string
	Members  map[string]struct{ Shape string }
	Member   struct{ Shape string }
	Min, Max *float64
	Pattern  string
	Enum     []string
}

func loadModel(t testing.TB) *model {
	t.Helper()
	b, err := os.ReadFile("testdata/api-2.json")
	if err != nil {
		t.Fatal(err)
	}
	var m model
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return &m
}

// check lists what is wrong with a message that should have a shape.
func (m *model) check(at, name string, v any) (faults []string) {
	s, ok := m.Shapes[name]
	fault := func(format string, args ...any) { faults = append(faults, at+": "+fmt.Sprintf(format, args...)) }
	if !ok {
		fault("no shape %s", name)
		return faults
	}
	limits := func(n float64) {
		if s.Min != nil && n < *s.Min || s.Max != nil && n > *s.Max {
			fault("%v is out of bounds", n)
		}
	}
	switch s.Type {
	case "structure":
		fields, ok := v.(map[string]any)
		if !ok {
			fault("%T is no structure", v)
		}
		for _, r := range s.Required {
			if fields[r] == nil {
				fault("lacks %s", r)
			}
		}
		for k, field := range fields {
			member, ok := s.Members[k]
			if !ok {
				fault("has %s", k)
				continue
			}
			faults = append(faults, m.check(at+"."+k, member.Shape, field)...)
		}
	case "list":
		items, ok := v.([]any)
		if !ok {
			fault("%T is no list", v)
		}
		for i, item := range items {
			faults = append(faults, m.check(fmt.Sprintf("%s[%d]", at, i), s.Member.Shape, item)...)
		}
	case "string":
		text, ok := v.(string)
		if !ok {
			fault("%T is no string", v)
		}
		limits(float64(len(text)))
		if s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(text) {
			fault("%q does not match %s", text, s.Pattern)
		}
		if len(s.Enum) > 0 && !slices.Contains(s.Enum, text) {
			fault("%q is none of %q", text, s.Enum)
		}
	case "integer":
		n, ok := v.(float64)
		if !ok || n != math.Trunc(n) {
			fault("%v is no integer", v)
		}
		limits(n)
	default:
		fault("type %s is not checked here", s.Type)
	}
	return faults
}

// The model itself must be able to refuse.
func TestModel(t *testing.T) {
	m := loadModel(t)
	entry := func(arn, state any) any {
		return map[string]any{"UpdateRoutingControlStateEntries": []any{map[string]any{"RoutingControlArn": arn, "RoutingControlState": state}}}
	}
	if faults := m.check("", "UpdateRoutingControlStatesRequest", entry("arn:x", "On")); len(faults) > 0 {
		t.Error(faults)
	}
	for name, bad := range map[string]any{
		"an empty ARN": entry("", "On"), "a state in capitals": entry("arn:x", "ON"), "no state": entry("arn:x", nil), "spaces": entry("a b", "On"),
		"a number": entry(1.0, "On"), "another field": map[string]any{"Entries": []any{}}, "no list": map[string]any{"UpdateRoutingControlStateEntries": "x"},
	} {
		if len(m.check("", "UpdateRoutingControlStatesRequest", bad)) == 0 {
			t.Errorf("%s is accepted", name)
		}
	}
}
