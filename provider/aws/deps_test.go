package aws_test

import (
	"os/exec"
	"strings"
	"testing"
)

// Who imports one service compiles no other, and no other cloud. What signs
// people in (sts, sso, ssooidc, signin) belongs to the credential chain.
func TestDependencies(t *testing.T) {
	const services = "github.com/aws/aws-sdk-go-v2/service/"
	for pkg, own := range map[string]string{".": "s3", "./kms": "kms", "./route53": "route53", "./ebs": "ec2", "./arc": "", "./mrap": "s3control"} {
		out, err := exec.Command("go", "list", "-deps", pkg).Output()
		if err != nil {
			t.Fatalf("go list %s: %v", pkg, err)
		}
		found := false
		for dep := range strings.Lines(string(out)) {
			dep = strings.TrimSpace(dep)
			if rest, ok := strings.CutPrefix(dep, services); ok {
				switch service, _, _ := strings.Cut(rest, "/"); service {
				case own:
					found = true
				case "sts", "sso", "ssooidc", "signin", "internal":
				default:
					t.Errorf("%s brings in %s", pkg, dep)
				}
			}
			for _, other := range []string{"cloud.google.com/", "google.golang.org/api", "github.com/Azure/", "github.com/testcontainers/"} {
				if strings.HasPrefix(dep, other) {
					t.Errorf("%s brings in %s", pkg, dep)
				}
			}
		}
		if !found && own != "" { // arc speaks for itself
			t.Errorf("%s does not bring in %s", pkg, own)
		}
	}
}
