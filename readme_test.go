package holdfast_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The Go in README.md compiles: every block becomes a function with the names
// that the text takes for granted.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) < 3 {
		t.Fatalf("README.md has %d blocks of Go", len(blocks))
	}
	imports := map[string]string{
		"context": "context", "fmt": "fmt", "io": "io", "age": "filippo.io/age",
		"backup": module + "/backup", "files": module + "/backup/files", "dr": module + "/dr",
		"provider": module + "/provider", "local": module + "/provider/local", "replicate": module + "/replicate",
	}
	for i, b := range blocks {
		given := []string{"ctx context.Context"}
		for name, typ := range map[string]string{
			"key": "*age.X25519Identity", "repo": "*backup.Repository", "store": "provider.BlobStore",
			"standby": "provider.BlobStore", "point": "backup.Point", "target": "*files.Target", "parts": "dr.Parts", "file": "io.Reader",
		} {
			if !regexp.MustCompile(`(?m)^`+name+`, err :=`).MatchString(b[1]) && regexp.MustCompile(`\b`+name+`\b`).MatchString(b[1]) {
				given = append(given, name+" "+typ)
			}
		}
		body := "func run(" + strings.Join(given, ", ") + ") error {\n" + b[1]
		if last := strings.TrimSpace(b[1]); !strings.HasPrefix(last[strings.LastIndex(last, "\n")+1:], "return") {
			body += "return nil\n"
		}
		src := "package main\n\nimport (\n"
		for name, path := range imports {
			if regexp.MustCompile(`\b` + name + `\.`).MatchString(body) {
				src += "\t\"" + path + "\"\n"
			}
		}
		src += ")\n\nfunc main() {}\n\n" + body + "}\n\nvar _ = run\n"
		dir, err := os.MkdirTemp(".", "_readme-") // "_" keeps it out of ./...
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(src), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("go", "build", "-o", os.DevNull, "./"+dir).CombinedOutput(); err != nil {
			t.Errorf("block %d of README.md does not compile: %v\n%s\n%s", i+1, err, out, src)
		}
	}
}
