package main

import (
	"os"
	"os/exec"
)

func detach(*exec.Cmd) {}

func lockFile(string) (release func(), err error) { return nil, errPlatform }

func killSelf() { os.Exit(137) }
