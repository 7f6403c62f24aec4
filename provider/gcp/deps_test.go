package gcp_test

import (
	"os/exec"
	"strings"
	"testing"
)

// Who imports one service compiles no other, and no other cloud.
func TestDependencies(t *testing.T) {
	own := map[string]string{".": "cloud.google.com/go/storage", "./kms": "google.golang.org/api/cloudkms/v1", "./clouddns": "google.golang.org/api/dns/v1", "./disks": "google.golang.org/api/compute/v1"}
	for pkg, own := range own {
		out, err := exec.Command("go", "list", "-deps", pkg).Output()
		if err != nil {
			t.Fatalf("go list %s: %v", pkg, err)
		}
		found := false
		for dep := range strings.Lines(string(out)) {
			dep = strings.TrimSpace(dep)
			found = found || dep == own
			for _, other := range []string{
				"cloud.google.com/go/storage", "google.golang.org/api/storage/", "google.golang.org/api/cloudkms/", "google.golang.org/api/dns/", "google.golang.org/api/compute/",
				"github.com/aws/", "github.com/Azure/", "github.com/testcontainers/", "github.com/holdfast-go/holdfast/provider/gcp/internal/fakegcp",
			} {
				if strings.HasPrefix(dep, other) && !strings.HasPrefix(dep, own) && !(pkg == "." && strings.Contains(dep, "/storage")) {
					t.Errorf("%s brings in %s", pkg, dep)
				}
			}
		}
		if !found {
			t.Errorf("%s does not bring in %s", pkg, own)
		}
	}
}
