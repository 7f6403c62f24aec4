//go:build !race

package backup_test

const racing = false

// Tests that try everything try all of it.
const every = 1
