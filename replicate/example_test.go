package replicate_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
	"github.com/holdfast-go/holdfast/replicate"
)

// A *backup.Repository is a Source; here a small one stands in its place.
func Example() {
	ctx := context.Background()
	if err := example(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// behind by 2 points, 3 objects
	// arrived: points/2 points/1
	// behind by 0 points
	// 3 objects verified, 0 damaged
}

func example(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "replicate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	primary, err := local.NewBlobStore(local.Config{Dir: filepath.Join(dir, "primary"), Create: true})
	if err != nil {
		return err
	}
	defer primary.Close()
	standby, err := local.NewBlobStore(local.Config{Dir: filepath.Join(dir, "standby"), Create: true})
	if err != nil {
		return err
	}
	defer standby.Close()
	for key, content := range map[string]string{
		"packs/a":  "shared by both points",
		"points/1": `{"objects":[{"Key":"packs/a","Size":21}]}`,
		"points/2": `{"objects":[{"Key":"packs/a","Size":21}]}`,
	} {
		if _, err := primary.Put(ctx, key, provider.Bytes([]byte(content)), provider.PutOptions{IfAbsent: true}); err != nil {
			return err
		}
	}

	repo := source{primary}
	lag, err := replicate.Lag(ctx, repo, standby)
	if err != nil {
		return err
	}
	fmt.Printf("behind by %d points, %d objects\n", lag.Points, lag.Objects)

	result, err := replicate.Copy(ctx, replicate.Config{Source: repo, From: primary, To: standby, BytesPerSecond: 100 << 20})
	if err != nil {
		return err
	}
	fmt.Println("arrived:", result.Arrived[0], result.Arrived[1])

	if lag, err = replicate.Lag(ctx, repo, standby); err != nil {
		return err
	}
	fmt.Printf("behind by %d points\n", lag.Points)

	report, err := replicate.Verify(ctx, replicate.VerifyConfig{Source: repo, From: primary, To: standby})
	if err != nil {
		return err
	}
	fmt.Printf("%d objects verified, %d damaged\n", report.Read, len(report.Damage))
	return nil
}
