package postgres_test

import (
	"os/exec"
	"strings"
	"testing"
)

// serverWouldRun does what a server does with restore_command: it reads the
// setting (two quotes are one, a backslash takes the next character as it is),
// puts the name of the file and the path in, and gives it to a shell.
func serverWouldRun(t *testing.T, conf, file, path string) (string, error) {
	t.Helper()
	value := ""
	for line := range strings.Lines(conf) {
		if rest, ok := strings.CutPrefix(line, "restore_command = '"); ok {
			value = strings.TrimSuffix(rest, "'\n")
		}
	}
	var setting strings.Builder
	for i := 0; i < len(value); i++ {
		if (value[i] == '\\' || value[i] == '\'') && i+1 < len(value) {
			i++
		}
		setting.WriteByte(value[i])
	}
	command := strings.NewReplacer("%%", "%", "%f", file, "%p", path).Replace(setting.String())
	out, err := exec.Command("sh", "-c", command).CombinedOutput()
	return string(out), err
}
