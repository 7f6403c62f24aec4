package backup

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider/providertest"
)

// forge writes a point whose tree is made by hand, as someone who holds a
// writer's keys could, and opens it.
func forge(t *testing.T, r *Repository, build func(write metaWriter) node) *View {
	t.Helper()
	ctx := t.Context()
	id := newPointID(time.Now())
	p, err := newPipeline(ctx, r, id, reusable{session: string(id)})
	if err != nil {
		t.Fatal(err)
	}
	s := &Session{p: p, ids: r.keys.newIdentifier()}
	root := build(s.metaWriter(ctx))
	p.close(ctx)
	if _, err := r.commit(ctx, Point{ID: id, Name: "w", Kind: "k", Writer: "test"}, []node{root}, p); err != nil {
		t.Fatal(err)
	}
	v, err := r.View(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestForgedTrees(t *testing.T) {
	r, err := Init(t.Context(), Config{Store: providertest.NewMemory(), Writer: "test",
		Keyring: Keyring{Recipients: []Recipient{plainKey{}}, Identities: []Identity{plainKey{}}}})
	if err != nil {
		t.Fatal(err)
	}
	items := func(write metaWriter, its ...Item) node {
		p := pageBuilder{}
		for _, it := range its {
			p.body = appendItem(p.body, it)
			p.added(it.Path, 1)
		}
		n, err := p.flush(pageItems, write)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	nodes := func(write metaWriter, children ...node) node {
		p := pageBuilder{}
		for _, c := range children {
			p.body = appendNode(p.body, c)
			p.added(c.last, c.items)
		}
		n, err := p.flush(pageNodes, write)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	// bushy makes a tree that is small to write and endless to read.
	bushy := func(write metaWriter, leaf node) node {
		for range 12 {
			leaf = nodes(write, leaf, leaf, leaf, leaf, leaf, leaf, leaf, leaf)
		}
		return leaf
	}
	for name, build := range map[string]func(write metaWriter) node{
		"the same page again": func(w metaWriter) node { return bushy(w, items(w, Item{Path: "a"})) },
		"empty pages":         func(w metaWriter) node { return bushy(w, items(w)) },
		"no nodes":            func(w metaWriter) node { return nodes(w, nodes(w)) },
		"disorder":            func(w metaWriter) node { return nodes(w, items(w, Item{Path: "b"}), items(w, Item{Path: "a"})) },
		"too deep": func(w metaWriter) node {
			n := items(w, Item{Path: "a"})
			for range 40 {
				n = nodes(w, n)
			}
			return n
		},
		"a missing page": func(w metaWriter) node { return nodes(w, node{last: "x", page: ref{plain: 9}}) },
	} {
		v := forge(t, r, build)
		var got error
		for _, err := range v.Items(t.Context()) {
			got = err
		}
		if !errors.Is(got, ErrDamaged) {
			t.Errorf("%s: %v, want ErrDamaged", name, got)
		}
		mustFind(t, r, name, v.Point().ID)
	}
	v := forge(t, r, func(w metaWriter) node {
		n, m := items(w, Item{Path: "a"}, Item{Path: "b"}), items(w, Item{Path: "c"})
		n.last = "a" // so that nobody finds b
		return nodes(w, n, m)
	})
	mustFind(t, r, "a wrong last path", v.Point().ID)
	list := func(w metaWriter, refs ...ref) ref {
		p, err := w(appendRefs([]byte{pageRefs}, refs))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for name, content := range map[string]func(w metaWriter) content{
		"a list without end": func(w metaWriter) content {
			leaf := list(w, ref{plain: maxData})
			for range 5 {
				leaf = list(w, leaf, leaf, leaf, leaf, leaf, leaf, leaf, leaf)
			}
			return content{depth: 6, refs: []ref{leaf}}
		},
		"too short":          func(w metaWriter) content { return content{depth: 1, refs: []ref{list(w, ref{plain: 1})}} },
		"an item as a list":  func(w metaWriter) content { return content{depth: 1, refs: []ref{items(w, Item{Path: "x"}).page}} },
		"nothing where much": func(w metaWriter) content { return content{depth: 3} },
	} {
		v := forge(t, r, func(w metaWriter) node {
			return items(w, Item{Path: "a", Size: 1000, content: content(w)})
		})
		it, err := v.Lookup(context.WithoutCancel(t.Context()), "a")
		if err != nil {
			t.Fatal(err)
		}
		var listed int64
		for l, err := range v.refs(t.Context(), it) {
			if err == nil && l.depth == 0 {
				listed += int64(l.plain)
			}
		}
		if listed > it.Size {
			t.Errorf("%s: chunks of %d bytes are listed for an item of %d", name, listed, it.Size)
		}
		rd, err := v.Open(t.Context(), it)
		if err == nil {
			_, err = io.Copy(io.Discard, rd)
			rd.Close()
		}
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v, want ErrDamaged", name, err)
		}
		mustFind(t, r, name, v.Point().ID)
	}
}

// mustFind checks that Check calls a point damaged, and comes to an end.
func mustFind(t *testing.T, r *Repository, name string, id PointID) {
	t.Helper()
	rep, err := r.Check(t.Context(), CheckOptions{})
	i := slices.IndexFunc(rep.Damaged, func(d DamagedPoint) bool { return d.ID == id })
	if err != nil || i < 0 {
		t.Errorf("%s: check: %v, %s", name, err, rep)
	} else if len(rep.Damaged[i].Lost) == 0 || len(rep.String()) > 64<<10 {
		t.Errorf("%s: what is lost: %s", name, rep)
	}
	if _, err := r.Prune(t.Context(), PruneOptions{DryRun: true}); err != nil && !errors.Is(err, ErrDamaged) {
		t.Errorf("%s: prune: %v", name, err)
	}
}
