package keyvault_test

import (
	"context"
	"crypto/aes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys/fake"

	"github.com/holdfast-go/holdfast/provider/azure/internal/wire"
)

const vaultURL = "https://holdfast.vault.azure.net"

// vault is the SDK's fake server with keys behind it that really wrap, and
// before it what Azure documents of permissions and of keys that cannot be
// used.
type vault struct {
	*wire.Proxy
	t *testing.T

	mu   sync.Mutex
	keys map[string]*key
}

type key struct {
	versions []version // the current one last
	deleted  bool      // softly
	refuse   string    // an inner code by which operations are refused, ...
	only     string    // ... this operation only
}

type version struct {
	id       string
	disabled bool
	rsa      *rsa.PrivateKey
	aes      []byte
}

func newVault(t *testing.T, names ...string) *vault {
	v := &vault{t: t, keys: map[string]*key{}}
	server := &fake.Server{WrapKey: v.wrapKey, UnwrapKey: v.unwrapKey, GetDeletedKey: v.getDeleted}
	v.Proxy = &wire.Proxy{Server: fake.NewServerTransport(server)}
	for _, name := range names {
		v.keys[name] = &key{}
		v.rotate(name)
	}
	v.restore()
	return v
}

// restore has the rules of the service, and no others.
func (v *vault) restore() {
	v.Clear()
	v.Add(v.rule)
}

func (v *vault) rotate(name string) {
	id := make([]byte, 16)
	rand.Read(id)
	var n version
	n.id = fmt.Sprintf("%x", id)
	if strings.HasPrefix(name, "symmetric") {
		n.aes = make([]byte, 32)
		rand.Read(n.aes)
	} else {
		var err error
		if n.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			v.t.Fatal(err)
		}
	}
	v.change(name, func(k *key) { k.versions = append(k.versions, n) })
}

func (v *vault) change(name string, f func(*key)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f(v.keys[name])
}

var operation = regexp.MustCompile(`^/keys/([^/]+)/(?:([^/]*)/)?(wrapkey|unwrapkey)$`)

// rule refuses as Azure does: who may not is told so whatever he asks, before
// anything is said of keys.
func (v *vault) rule(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
	if r.Token() == "" {
		return next() // the fake challenges
	}
	who, _, _ := strings.Cut(r.Token(), "-")
	m := operation.FindStringSubmatch(r.URL.Path)
	if m == nil {
		if strings.HasPrefix(r.URL.Path, "/deletedkeys/") && who != "owner" {
			return wire.Fault(r, 403, "Forbidden", "The user does not have keys get permission on key vault", "ForbiddenByRbac"), nil
		}
		return next()
	}
	if m[3] == "unwrapkey" && who == "wraponly" {
		return wire.Fault(r, 403, "Forbidden", "Caller is not authorized to perform action on resource.", "ForbiddenByRbac"), nil
	}
	v.mu.Lock()
	k, n := v.find(m[1], m[2])
	v.mu.Unlock()
	switch {
	case n == nil:
		return wire.Fault(r, 404, "KeyNotFound", "A key with (name/id) "+m[1]+" was not found in this key vault.", ""), nil
	case k.refuse != "" && (k.only == "" || k.only == m[3]):
		return wire.Fault(r, 403, "Forbidden", "Operation is not allowed", k.refuse), nil
	case n.disabled && m[3] == "unwrapkey": // the vault lets disabled keys wrap
		return wire.Fault(r, 403, "Forbidden", "Operation unwrapKey is not allowed on a disabled key.", "KeyDisabled"), nil
	}
	return next()
}

// find takes name and version also as the fake delivers them: both in name.
func (v *vault) find(name, id string) (*key, *version) {
	if bare, rest, ok := strings.Cut(name, "/"); ok {
		name, id = bare, rest
	}
	k := v.keys[name]
	if k == nil || k.deleted {
		return nil, nil
	}
	if id == "" {
		return k, &k.versions[len(k.versions)-1]
	}
	for i := range k.versions {
		if k.versions[i].id == id {
			return k, &k.versions[i]
		}
	}
	return k, nil
}

func (v *vault) wrapKey(_ context.Context, name, id string, in azkeys.KeyOperationParameters, _ *azkeys.WrapKeyOptions) (resp azfake.Responder[azkeys.WrapKeyResponse], errResp azfake.ErrorResponder) {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, n := v.find(name, id)
	out, err := n.wrap(*in.Algorithm, in.Value)
	if err != nil {
		errResp.SetResponseError(400, "BadParameter")
		return
	}
	resp.SetResponse(200, azkeys.WrapKeyResponse{KeyOperationResult: n.result(name, out)}, nil)
	return
}

func (v *vault) unwrapKey(_ context.Context, name, id string, in azkeys.KeyOperationParameters, _ *azkeys.UnwrapKeyOptions) (resp azfake.Responder[azkeys.UnwrapKeyResponse], errResp azfake.ErrorResponder) {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, n := v.find(name, id)
	out, err := n.unwrap(*in.Algorithm, in.Value)
	if err != nil {
		errResp.SetResponseError(400, "BadParameter")
		return
	}
	resp.SetResponse(200, azkeys.UnwrapKeyResponse{KeyOperationResult: n.result(name, out)}, nil)
	return
}

func (n *version) result(name string, out []byte) azkeys.KeyOperationResult {
	name, _, _ = strings.Cut(name, "/")
	kid := azkeys.ID(vaultURL + "/keys/" + name + "/" + n.id)
	return azkeys.KeyOperationResult{KID: &kid, Result: out}
}

func (v *vault) getDeleted(_ context.Context, name string, _ *azkeys.GetDeletedKeyOptions) (resp azfake.Responder[azkeys.GetDeletedKeyResponse], errResp azfake.ErrorResponder) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.keys[name]
	if k == nil || !k.deleted {
		errResp.SetResponseError(404, "KeyNotFound")
		return
	}
	purge := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	resp.SetResponse(200, azkeys.GetDeletedKeyResponse{DeletedKey: azkeys.DeletedKey{ScheduledPurgeDate: &purge, Attributes: &azkeys.KeyAttributes{}}}, nil)
	return
}

var errAlgorithm = errors.New("key and algorithm do not fit")

func (n *version) wrap(alg azkeys.EncryptionAlgorithm, b []byte) ([]byte, error) {
	switch {
	case alg == azkeys.EncryptionAlgorithmRSAOAEP256 && n.rsa != nil:
		return rsa.EncryptOAEP(sha256.New(), rand.Reader, &n.rsa.PublicKey, b, nil)
	case alg == azkeys.EncryptionAlgorithmA256KW && n.aes != nil && len(b) == 32:
		return aesWrap(n.aes, b), nil
	}
	return nil, errAlgorithm
}

func (n *version) unwrap(alg azkeys.EncryptionAlgorithm, b []byte) ([]byte, error) {
	switch {
	case alg == azkeys.EncryptionAlgorithmRSAOAEP256 && n.rsa != nil:
		return rsa.DecryptOAEP(sha256.New(), nil, n.rsa, b, nil)
	case alg == azkeys.EncryptionAlgorithmA256KW && n.aes != nil:
		return aesUnwrap(n.aes, b)
	}
	return nil, errAlgorithm
}

const kwIV = 0xA6A6A6A6A6A6A6A6

// aesWrap is the key wrap of RFC 3394.
func aesWrap(kek, b []byte) []byte {
	block, _ := aes.NewCipher(kek)
	out, n := append(binary.BigEndian.AppendUint64(nil, kwIV), b...), len(b)/8
	for j := range 6 {
		for i := 1; i <= n; i++ {
			buf := append(append([]byte(nil), out[:8]...), out[8*i:8*i+8]...)
			block.Encrypt(buf, buf)
			binary.BigEndian.PutUint64(out, binary.BigEndian.Uint64(buf)^uint64(n*j+i))
			copy(out[8*i:], buf[8:])
		}
	}
	return out
}

func aesUnwrap(kek, b []byte) ([]byte, error) {
	if len(b) != 40 {
		return nil, errAlgorithm
	}
	block, _ := aes.NewCipher(kek)
	out, n := append([]byte(nil), b...), len(b)/8-1
	for j := 5; j >= 0; j-- {
		for i := n; i >= 1; i-- {
			buf := binary.BigEndian.AppendUint64(nil, binary.BigEndian.Uint64(out)^uint64(n*j+i))
			buf = append(buf, out[8*i:8*i+8]...)
			block.Decrypt(buf, buf)
			copy(out, buf[:8])
			copy(out[8*i:], buf[8:])
		}
	}
	if binary.BigEndian.Uint64(out) != kwIV {
		return nil, errors.New("integrity check")
	}
	return out[8:], nil
}
