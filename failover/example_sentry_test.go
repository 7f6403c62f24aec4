package failover_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider/local"
)

// A service that fences itself: every write asks before and after. The process
// may be stopped anywhere in between, for however long.
func ExampleSentry() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "witness")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := local.NewBlobStore(local.Config{Dir: dir, Create: true})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	sentry, err := failover.NewSentry(failover.SentryConfig{Store: store, Service: "shop", Site: "east", Patience: time.Second})
	if err != nil {
		log.Fatal(err)
	}
	write := func(text string) error {
		if err := sentry.Check(); err != nil {
			return err
		}
		fmt.Printf("%q is durable\n", text)
		return sentry.Check() // nil: acknowledge
	}
	fmt.Println(write("too early"))

	ended := make(chan error)
	go func() { ended <- sentry.Run(ctx) }()
	for sentry.Check() != nil {
		time.Sleep(time.Millisecond)
	}
	fmt.Println(write("one"))

	// What the run of a failover does, on another machine.
	lease, err := failover.OpenLease(ctx, failover.LeaseConfig{Store: store, Service: "shop", Holder: "orchestrator"})
	if err != nil {
		log.Fatal(err)
	}
	held, err := lease.Acquire(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := held.SetActive(ctx, "west"); err != nil {
		log.Fatal(err)
	}
	err = <-ended
	fmt.Println(errors.Is(err, failover.ErrSealed))
	fmt.Println(write("two"))
	// Output:
	// fenced: the lease has not been read yet
	// "one" is durable
	// <nil>
	// true
	// fenced for good: west is in charge since epoch 1; this is east, epoch 0
}
