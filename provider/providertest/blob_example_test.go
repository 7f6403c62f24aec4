package providertest_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// Before a lease goes to live in somebody's bucket, ask whether the bucket
// tells the winner of a race from the loser.
func ExampleCheckConditions() {
	var bucket provider.BlobStore = providertest.NewMemory()
	report := providertest.CheckConditions(context.Background(), bucket, "scratch/")
	if err := report.Err(); err != nil {
		fmt.Println("must not hold a lease:", err)
		return
	}
	fmt.Println(len(report.Results), "clauses hold")
	// Output: 6 clauses hold
}

// A reply that is lost leaves the caller in doubt, and the object in place.
func ExampleFaulty() {
	ctx := context.Background()
	bucket := providertest.NewMemory()
	lossy := providertest.NewFaulty(bucket, providertest.CrashAfter(1))

	_, err := lossy.Put(ctx, "points/1", provider.Bytes([]byte("data")), provider.PutOptions{})
	fmt.Println(errors.Is(err, providertest.ErrCrashed))

	_, err = bucket.Stat(ctx, "points/1")
	fmt.Println(err)
	// Output:
	// true
	// <nil>
}
