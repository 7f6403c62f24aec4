//go:build !linux && !darwin

package main

import (
	"errors"
	"fmt"
	"runtime"
	"time"
)

// The quickstart tells processes apart by their start time and compares
// instants of different processes. It knows how to on Linux and macOS.
var errPlatform = fmt.Errorf("quickstart on %s: %w (it runs on Linux and macOS; the library itself is not limited so)",
	runtime.GOOS, errors.ErrUnsupported)

func processBegan(int) (string, error) { return "", errPlatform }

var started = time.Now()

func clock() int64 { return int64(time.Since(started)) }
