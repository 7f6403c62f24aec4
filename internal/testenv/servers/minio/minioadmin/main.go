// Minioadmin makes a user with a policy on the MinIO server beside it. It
// takes everything from the environment: MINIO_ROOT_USER, MINIO_ROOT_PASSWORD,
// NEW_USER, NEW_PASSWORD and NEW_POLICY (JSON).
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/minio/madmin-go/v3"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "minioadmin:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	admin, err := madmin.New("127.0.0.1:9000", os.Getenv("MINIO_ROOT_USER"), os.Getenv("MINIO_ROOT_PASSWORD"), false)
	if err != nil {
		return err
	}
	user := os.Getenv("NEW_USER")
	if err := admin.AddUser(ctx, user, os.Getenv("NEW_PASSWORD")); err != nil {
		return fmt.Errorf("add user: %w", err)
	}
	if err := admin.AddCannedPolicy(ctx, user, []byte(os.Getenv("NEW_POLICY"))); err != nil {
		return fmt.Errorf("add policy: %w", err)
	}
	if _, err := admin.AttachPolicy(ctx, madmin.PolicyAssociationReq{Policies: []string{user}, User: user}); err != nil {
		return fmt.Errorf("attach policy: %w", err)
	}
	return nil
}
