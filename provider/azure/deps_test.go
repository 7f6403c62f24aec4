package azure_test

import (
	"os/exec"
	"strings"
	"testing"
)

// Who stores in Azure compiles no other cloud, and no format that this package
// does not ask for.
func TestBringsNoOtherCloud(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range strings.Lines(string(out)) {
		for _, other := range []string{"github.com/aws/", "cloud.google.com/", "google.golang.org/", "github.com/apache/arrow", "k8s.io/", "/sdk/resourcemanager/"} {
			if strings.Contains(pkg, other) {
				t.Errorf("brings %s", pkg)
			}
		}
	}
	if n := strings.Count(string(out), "azure-sdk-for-go"); n < 10 {
		t.Errorf("go list named only %d packages of the SDK", n)
	}
}
