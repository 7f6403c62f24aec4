package local_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
)

// A store is created once, on purpose; from then on it is only opened.
func ExampleNewBlobStore() {
	dir, err := os.MkdirTemp("", "holdfast")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	store, err := local.NewBlobStore(local.Config{Dir: dir, Create: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()

	ctx := context.Background()
	for _, key := range []string{"points/2026-11-23", "points/2026-11-24", "points-old"} {
		if _, err := store.Put(ctx, key, strings.NewReader("manifest"), provider.PutOptions{IfAbsent: true}); err != nil {
			fmt.Println(err)
		}
	}
	_, err = store.Put(ctx, "points-old", strings.NewReader("other"), provider.PutOptions{IfAbsent: true})
	fmt.Println(errors.Is(err, provider.ErrConflict))
	for info, err := range store.List(ctx, "points", provider.ListOptions{}) {
		fmt.Println(info.Key, info.Size, err)
	}
	// Output:
	// true
	// points-old 8 <nil>
	// points/2026-11-23 8 <nil>
	// points/2026-11-24 8 <nil>
}
