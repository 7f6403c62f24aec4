// Prepare builds the servers that the tests start, and their images, unless
// they are there. With the argument "postgres" it prints the name of the image of
// PostgreSQL instead, which it makes if need be.
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
	if len(os.Args) > 1 && os.Args[1] == "postgres" {
		name, err := testenv.PostgresImage(ctx, func(s string) { fmt.Fprintln(os.Stderr, s) })
		if err != nil {
			fmt.Fprintln(os.Stderr, "postgres:", err)
			os.Exit(1)
		}
		fmt.Println(name)
		return
	}
	if err := testenv.Prepare(ctx, func(s string) { fmt.Println("servers:", s) }); err != nil {
		fmt.Fprintln(os.Stderr, "servers:", err)
		os.Exit(1)
	}
	fmt.Println("servers: ready")
}
