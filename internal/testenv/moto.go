package testenv

import (
	"testing"

	"github.com/testcontainers/testcontainers-go/wait"
)

// moto is the emulator of AWS that Debian has, 5.1.1.
var moto = image{"moto", debian{packages: []string{"python3-moto", "python3-flask", "python3-flask-cors"}}}

// Moto is a running emulator of the control planes of AWS: EC2 with EBS, Route
// 53, KMS, IAM and STS, of all regions at one Endpoint. It takes any
// credential, and has one account, MotoAccount. What it does not enforce is
// said by the packages that are tested on it. Its S3 is not used.
type Moto struct{ server }

// MotoAccount is the account that all credentials belong to.
const MotoAccount = "123456789012"

// StartMoto starts moto, unless the process has done so.
func StartMoto(t testing.TB) *Moto {
	t.Helper()
	return once(t, moto.name, func() *Moto {
		t.Helper()
		return &Moto{service{
			image: moto, port: "5000/tcp", scheme: "http",
			up:  wait.ForHTTP("/moto-api/").WithPort("5000/tcp"),
			cmd: []string{"python3", "-m", "moto.server", "-H", "0.0.0.0", "-p", "5000"},
		}.start(t)}
	})
}
