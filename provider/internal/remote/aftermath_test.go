package remote_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

func TestAftermath(t *testing.T) {
	for ends, want := range map[time.Duration]time.Duration{0: 3 * time.Second, 10 * time.Second: 13 * time.Second, time.Hour: time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), ends)
			defer cancel()
			look, done := remote.Aftermath(ctx)
			defer done()
			begun := time.Now()
			if <-look.Done(); time.Since(begun) != want {
				t.Errorf("a ctx that ends after %v: %v, want %v", ends, time.Since(begun), want)
			}
		})
	}
	look, done := remote.Aftermath(t.Context())
	if done(); look.Err() == nil {
		t.Error("it goes on after it was ended")
	}
}
