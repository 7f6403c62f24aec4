//go:build tools

// Package minio pins the sources of MinIO and the program beside it that makes users.
package minio

import _ "github.com/minio/minio"
