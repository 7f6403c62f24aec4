//go:build tools

// Package versitygw pins the sources of versitygw.
package versitygw

import _ "github.com/versity/versitygw/cmd/versitygw"
