//go:build race

package failovertest_test

const raceDetector = true
