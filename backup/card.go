package backup

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"text/template"
	"time"
)

//go:embed FORMAT.md
var formatText string

//go:embed reader/main.go
var readerSource string

//go:embed card.txt
var cardText string

// CardOptions say what a recovery card tells that the repository does not
// know. All of it is printed as it is: put no secret into it.
type CardOptions struct {
	Location string // where the repository is: "bucket dr-1 in eu-west-1, account 1234"
	Contact  string // who holds the identities, and where
}

// RecoveryCard writes a text to print and to keep where the repository is
// not: how to get everything back with stock tools and the program in its
// appendix, should this library be gone. It holds the wrapped root keys, the
// format and the program's source, and nothing secret: neither keys nor the
// names of points. Make a new one when the recipients change.
func (r *Repository) RecoveryCard(ctx context.Context, w io.Writer, o CardOptions) error {
	r, err := r.current(ctx)
	if err != nil {
		return fmt.Errorf("recovery card: %w", err)
	}
	c := card{
		CardOptions: o, ID: r.keys.format.ID, Made: time.Now().UTC().Format(time.DateOnly),
		Created: r.keys.format.Created.Format(time.DateOnly), Format: formatText, Reader: readerSource,
	}
	c.Keys = append(c.Keys, cardKeys{Name: formatKey, Stanzas: r.keys.format.Stanzas, Text: wrap64(r.keys.encoded)})
	if o := r.keys.present; o != nil {
		c.Keys = append(c.Keys, cardKeys{Name: keysKey(o.Generation), Stanzas: o.Stanzas, Text: wrap64(o.encoded)})
	}
	for info, err := range r.Manifests(ctx) {
		if err != nil {
			return fmt.Errorf("recovery card: %w", err)
		}
		c.Points++
		c.Newest = strings.TrimPrefix(info.Key, pointPrefix)
	}
	t, err := template.New("card").Parse(cardText)
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	if err := t.Execute(&buf, c); err != nil {
		return err
	}
	_, err = w.Write(buf.Bytes())
	return err
}

// A card is what the text is filled in with.
type card struct {
	CardOptions
	ID, Made, Created, Newest string
	Points                    int
	Keys                      []cardKeys
	Format, Reader            string
}

type cardKeys struct {
	Name    string // of the object
	Stanzas []Stanza
	Text    string
}

// wrap64 is base64 in lines that can be printed.
func wrap64(b []byte) string {
	s := base64.StdEncoding.EncodeToString(b)
	var out strings.Builder
	for len(s) > 76 {
		out.WriteString(s[:76] + "\n")
		s = s[76:]
	}
	return out.String() + s
}
