//go:build tools

// Package servers pins the servers that the tests start.
package servers

import (
	_ "github.com/minio/minio"
	_ "github.com/versity/versitygw/cmd/versitygw"
)
