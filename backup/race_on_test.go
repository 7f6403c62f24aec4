//go:build race

package backup_test

const racing = true
