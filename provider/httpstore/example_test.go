package httpstore_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/httpstore"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// One process serves a store, another one uses it.
func Example() {
	const token = "read from a file, not from here"
	handler, err := httpstore.NewHandler(providertest.NewMemory(), httpstore.HandlerConfig{Token: token})
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewTLSServer(handler) // http.Server in real life
	defer server.Close()

	ctx := context.Background()
	store, err := httpstore.New(httpstore.Config{URL: server.URL, Token: token, Client: server.Client()})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := store.Put(ctx, "notes/a", provider.Bytes([]byte("hello")), provider.PutOptions{IfAbsent: true}); err != nil {
		log.Fatal(err)
	}
	_, err = store.Put(ctx, "notes/a", provider.Bytes([]byte("again")), provider.PutOptions{IfAbsent: true})
	fmt.Println(err)
	b, _, err := provider.ReadAll(ctx, store, "notes/a", 100)
	fmt.Printf("%s %v\n", b, err)
	// Output:
	// http: put notes/a: memory: condition not met
	// hello <nil>
}
