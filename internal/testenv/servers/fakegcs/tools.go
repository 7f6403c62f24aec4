//go:build tools

// Package fakegcs pins the sources of fake-gcs-server.
package fakegcs

import _ "github.com/fsouza/fake-gcs-server"
