package aws_test

import (
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	store "github.com/holdfast-go/holdfast/provider/aws"
	"github.com/holdfast-go/holdfast/provider/internal/badnet"
)

// What other stores say of tags than the servers here: that there are none, by
// an error; that they keep none; and that this credential may not.
func TestTagAnswers(t *testing.T) {
	server := testenv.MinIO(t)
	n := badnet.New(t, server.Endpoint, httptest.NewServer)
	s := open(t, server, server.NewBucket(t, testenv.BucketOptions{}), server.Credential, func(c *store.Config) { c.Endpoint, c.Attempts = n.URL, 1 })
	tagging := func(r *http.Request) bool { return r.URL.Query().Has("tagging") }
	for _, c := range []struct {
		status int
		code   string
		tells  error
		sets   error
	}{{404, "NoSuchTagSet", nil, nil}, {404, "NoSuchKey", provider.ErrNotFound, provider.ErrNotFound}, {405, "MethodNotAllowed", provider.ErrNotFound, provider.ErrNotFound},
		{403, "AccessDenied", fs.ErrPermission, fs.ErrPermission}, {501, "NotImplemented", errors.ErrUnsupported, errors.ErrUnsupported}, {400, "InvalidTag", errors.ErrUnsupported, errors.ErrUnsupported}} {
		answer := badnet.Answers(c.status, http.Header{"Content-Type": {"application/xml"}}, "<Error><Code>"+c.code+"</Code><Message>m</Message></Error>")
		n.Meets(1, tagging, answer)
		tags, err := s.Tags(t.Context(), "x", "")
		if !errors.Is(err, c.tells) || c.tells == nil && err != nil || tags != nil {
			t.Errorf("%s: tags are %q, %v, want %v", c.code, tags, err, c.tells)
		}
		if c.sets == nil {
			continue
		}
		n.Meets(1, tagging, answer)
		if err := s.SetTags(t.Context(), "x", "", map[string]string{"a": "b"}); !errors.Is(err, c.sets) || !strings.Contains(err.Error(), "set tags x") {
			t.Errorf("%s: set tags: %v, want %v", c.code, err, c.sets)
		}
	}
}
