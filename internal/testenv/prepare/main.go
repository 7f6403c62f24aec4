// Prepare builds the servers that the tests start, and their images, unless
// they are there.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/holdfast-go/holdfast/internal/testenv"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := testenv.Prepare(ctx, func(s string) { fmt.Println("servers:", s) }); err != nil {
		fmt.Fprintln(os.Stderr, "servers:", err)
		os.Exit(1)
	}
	fmt.Println("servers: ready")
}
