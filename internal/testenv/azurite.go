package testenv

import (
	"crypto/rand"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/testcontainers/testcontainers-go/wait"
)

var azurite = image{"azurite", npm{"azurite", debian{packages: []string{"nodejs"}}}}

// Azure is a running Azurite, which speaks the protocol of Azure Blob Storage
// below Endpoint. It keeps no versions and takes no immutability policies. Key
// is that of the account, in base64.
type Azure struct {
	server
	Account, Key string

	Other *Azure // another account of the same server; its own Other is nil
}

// Azurite starts Azurite, unless the process has done so.
func Azurite(t testing.TB) *Azure {
	t.Helper()
	return once(t, azurite.name, func() *Azure {
		t.Helper()
		s := &Azure{Account: "account", Key: newKey(), Other: &Azure{Account: "other", Key: newKey()}}
		s.server = service{
			image: azurite, port: "10000/tcp", scheme: "http",
			// It has to answer something: Docker accepts connections before it.
			up:  wait.ForHTTP("/").WithPort("10000/tcp").WithStatusCodeMatcher(func(int) bool { return true }),
			env: map[string]string{"AZURITE_ACCOUNTS": s.Account + ":" + s.Key + ";" + s.Other.Account + ":" + s.Other.Key},
			cmd: []string{"node", "/azurite/node_modules/azurite/dist/src/blob/main.js", "--blobHost", "0.0.0.0", "--silent", "--inMemoryPersistence",
				"--disableTelemetry", "--skipApiVersionCheck"}, // SDKs ask for newer versions than it knows
		}.start(t)
		s.Other.server = s.server
		s.Endpoint += "/" + s.Account
		s.Other.Endpoint += "/" + s.Other.Account
		return s
	})
}

func newKey() string {
	key := make([]byte, 64)
	rand.Read(key)
	return base64.StdEncoding.EncodeToString(key)
}

// Client speaks to a container as the owner of the account.
func (s *Azure) Client(t testing.TB, name string) *container.Client {
	t.Helper()
	key, err := container.NewSharedKeyCredential(s.Account, s.Key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := container.NewClientWithSharedKeyCredential(s.Endpoint+"/"+name, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// NewContainer makes a container and returns its name. It goes away with the
// server.
func (s *Azure) NewContainer(t testing.TB) string {
	t.Helper()
	name := "c" + strings.ToLower(rand.Text())
	if _, err := s.Client(t, name).Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return name
}

// SAS makes a shared access signature for one container, good for an hour.
func (s *Azure) SAS(t testing.TB, name string, may sas.ContainerPermissions) string {
	t.Helper()
	key, err := container.NewSharedKeyCredential(s.Account, s.Key)
	if err != nil {
		t.Fatal(err)
	}
	q, err := sas.BlobSignatureValues{ContainerName: name, Permissions: may.String(), ExpiryTime: time.Now().Add(time.Hour).UTC()}.SignWithSharedKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return q.Encode()
}
