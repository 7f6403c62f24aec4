package backup_test

import "os"

// long asks for the variants of tests that take minutes.
func long() bool { return os.Getenv("HOLDFAST_LONG") == "1" }
