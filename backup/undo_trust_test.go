package backup

import (
	"context"
	"errors"
	"testing"

	"github.com/holdfast-go/holdfast/provider/providertest"
)

// undoing notes where it was told to undo something.
type undoing struct {
	things
	at *[]string
}

func (undoing) Secure(context.Context, *Session, *View, Destination) error { return nil }

func (u undoing) Undo(_ context.Context, _ *View, d Destination) error {
	*u.at = append(*u.at, d.Location)
	return nil
}

// A sealed writer makes no safety points: what looks like one of his would
// have its destination removed or overwritten by who undoes it.
func TestUndoOfAStranger(t *testing.T) {
	store := providertest.NewMemory()
	holder, err := Init(t.Context(), testConfig(store))
	if err != nil {
		t.Fatal(err)
	}
	var at []string
	target := undoing{things{"a": "content"}, &at}
	for _, c := range []struct {
		by   *Repository
		want error
	}{{holder, nil}, {sealTest(t, holder, "thief"), ErrDamaged}} {
		p, err := c.by.Backup(t.Context(), "web.undo", target, BackupOptions{safety: &Safety{Destination: Destination{Location: "/" + c.by.c.Writer}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := holder.Undo(t.Context(), p.ID, target, RestoreOptions{}); !errors.Is(err, c.want) {
			t.Errorf("undo of a point of %s: %v, want %v", p.Writer, err, c.want)
		}
	}
	if len(at) != 1 || at[0] != "/"+holder.c.Writer {
		t.Errorf("undone at %v, want at the holder's place only", at)
	}
}
