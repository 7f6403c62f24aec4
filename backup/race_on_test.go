//go:build race

package backup_test

const racing = true

// Tests that try everything try one thing in so many: they are ten times as
// slow, and make long runs them without the race detector.
const every = 5
