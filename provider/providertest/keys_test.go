package providertest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func keysOptions(kms *providertest.KMS) providertest.KeysOptions {
	return providertest.KeysOptions{
		Key: "key/1", Other: "key/2", Missing: "key/none",
		WrapOnly: func() (providertest.KeyService, error) { return kms.WrapOnly(), nil },
		Rotate:   func(context.Context) error { return kms.Rotate("key/1") },
		Down:     func() { kms.Down(errors.New("region does not answer")) },
		Up:       func() { kms.Down(nil) },
	}
}

func TestKMS(t *testing.T) {
	kms := providertest.NewKMS("east", "key/1", "key/2")
	providertest.TestKeys(t, func(*testing.T) providertest.KeyService { return kms }, keysOptions(kms))
}

// What the options do not let it ask is skipped and named; a service without
// a key to use, or out of reach, fails.
func TestCheckKeysOptions(t *testing.T) {
	kms := providertest.NewKMS("east", "key/1")
	report := providertest.CheckKeys(t.Context(), kms, providertest.KeysOptions{Key: "key/1"})
	skipped := 0
	for _, r := range report.Results {
		if r.Outcome == providertest.Skipped {
			skipped++
		}
	}
	if report.Err() != nil || skipped != 5 {
		t.Errorf("want five clauses skipped, the others passed:\n%v", report)
	}
	for _, o := range []providertest.KeysOptions{{}, {Key: "key/1", Down: func() {}}} {
		if providertest.CheckKeys(t.Context(), kms, o).Err() == nil {
			t.Errorf("%+v: no complaint", o)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, r := range providertest.CheckKeys(ended, kms, keysOptions(kms)).Results {
		if r.Outcome != providertest.Skipped {
			t.Errorf("%s: %s after the context had ended", r.ID, r.Outcome)
		}
	}
}

// A destroyed key is gone with all that it wrapped.
func TestKMSDestroy(t *testing.T) {
	kms := providertest.NewKMS("east", "key/1")
	wrapped, err := kms.WrapKey(t.Context(), "key/1", make([]byte, 32), nil)
	if err != nil {
		t.Fatal(err)
	}
	kms.Destroy("key/1")
	if _, err := kms.UnwrapKey(t.Context(), "key/1", wrapped, nil); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("after the key was destroyed: %v", err)
	}
}

// brokenKeys is a good service with a method replaced.
type brokenKeys struct {
	*providertest.KMS
	wrap   func(ctx context.Context, key string, secret []byte, ec provider.EncryptionContext) ([]byte, error)
	unwrap func(ctx context.Context, key string, wrapped []byte, ec provider.EncryptionContext) ([]byte, error)
}

func (b *brokenKeys) WrapKey(ctx context.Context, key string, secret []byte, ec provider.EncryptionContext) ([]byte, error) {
	return b.wrap(ctx, key, secret, ec)
}

func (b *brokenKeys) UnwrapKey(ctx context.Context, key string, wrapped []byte, ec provider.EncryptionContext) ([]byte, error) {
	return b.unwrap(ctx, key, wrapped, ec)
}

type (
	wrapFunc   = func(ctx context.Context, key string, secret []byte, ec provider.EncryptionContext) ([]byte, error)
	unwrapFunc = func(ctx context.Context, key string, wrapped []byte, ec provider.EncryptionContext) ([]byte, error)
)

var brokenKeyServices = []struct {
	name  string
	apply func(b *brokenKeys, o *providertest.KeysOptions)
	fails []string
}{
	{"forgets the context", func(b *brokenKeys, _ *providertest.KeysOptions) {
		b.wrap, b.unwrap = withContext(b, func(provider.EncryptionContext) provider.EncryptionContext { return nil })
	}, []string{"keys/context"}},
	{"joins the context without lengths", func(b *brokenKeys, _ *providertest.KeysOptions) {
		b.wrap, b.unwrap = withContext(b, func(ec provider.EncryptionContext) provider.EncryptionContext {
			if v := ec["a"] + ec["ab"]; len(ec) == 2 && v != "" {
				for _, name := range []string{"a", "ab"} {
					if value, ok := ec[name]; ok {
						return provider.EncryptionContext{"all": name + value + "d" + ec["d"]}
					}
				}
			}
			return ec
		})
	}, []string{"keys/context"}},
	{"tells nil from empty", func(b *brokenKeys, _ *providertest.KeysOptions) {
		b.wrap, b.unwrap = withContext(b, func(ec provider.EncryptionContext) provider.EncryptionContext {
			if ec != nil && len(ec) == 0 {
				return provider.EncryptionContext{"empty": "yes"}
			}
			return ec
		})
	}, []string{"keys/empty-context"}},
	{"uses one key for all", func(b *brokenKeys, _ *providertest.KeysOptions) {
		b.unwrap = func(ctx context.Context, key string, wrapped []byte, ec provider.EncryptionContext) ([]byte, error) {
			if key == "key/2" {
				key = "key/1"
			}
			return b.KMS.UnwrapKey(ctx, key, wrapped, ec)
		}
	}, []string{"keys/other-key"}},
	{"makes keys that are missing", func(b *brokenKeys, _ *providertest.KeysOptions) {
		b.wrap = func(ctx context.Context, key string, secret []byte, ec provider.EncryptionContext) ([]byte, error) {
			if key == "key/none" {
				key = "key/1"
			}
			return b.KMS.WrapKey(ctx, key, secret, ec)
		}
	}, []string{"keys/missing"}},
	{"says conflict for what is missing", func(b *brokenKeys, _ *providertest.KeysOptions) {
		b.wrap, b.unwrap = withError(b, provider.ErrNotFound, provider.ErrConflict)
	}, []string{"keys/missing"}},
	{"says permission for a wrong key", func(b *brokenKeys, _ *providertest.KeysOptions) {
		b.wrap, b.unwrap = withError(b, provider.ErrWrongKey, fs.ErrPermission)
	}, []string{"keys/context", "keys/other-key", "keys/changed"}},
	{"always wraps to the same bytes", func(b *brokenKeys, _ *providertest.KeysOptions) {
		var mu sync.Mutex
		made := map[string][]byte{}
		b.wrap = func(ctx context.Context, key string, secret []byte, ec provider.EncryptionContext) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			id := fmt.Sprint(key, secret, ec)
			if w, ok := made[id]; ok {
				return w, nil
			}
			w, err := b.KMS.WrapKey(ctx, key, secret, ec)
			made[id] = w
			return w, err
		}
	}, []string{"keys/fresh"}},
	{"stores the secret in the clear beside", func(b *brokenKeys, _ *providertest.KeysOptions) {
		b.wrap = func(ctx context.Context, key string, secret []byte, ec provider.EncryptionContext) ([]byte, error) {
			w, err := b.KMS.WrapKey(ctx, key, secret, ec)
			return append(w, secret...), err
		}
		b.unwrap = func(ctx context.Context, key string, wrapped []byte, ec provider.EncryptionContext) ([]byte, error) {
			return b.KMS.UnwrapKey(ctx, key, wrapped[:max(0, len(wrapped)-32)], ec)
		}
	}, []string{"keys/fresh", "keys/changed"}},
	{"clears the secret it is given", func(b *brokenKeys, _ *providertest.KeysOptions) {
		b.wrap = func(ctx context.Context, key string, secret []byte, ec provider.EncryptionContext) ([]byte, error) {
			w, err := b.KMS.WrapKey(ctx, key, secret, ec)
			if len(ec) == 1 && ec["a"] == "b" {
				clear(secret)
			}
			return w, err
		}
	}, []string{"keys/arguments"}},
	{"wraps whatever it gets", func(b *brokenKeys, _ *providertest.KeysOptions) {
		b.wrap = func(ctx context.Context, key string, secret []byte, ec provider.EncryptionContext) ([]byte, error) {
			return b.KMS.WrapKey(ctx, key, append(bytes.Clone(secret), make([]byte, 32)...)[:32], ec)
		}
	}, []string{"keys/size", "keys/error"}},
	{"ignores bytes at the end", func(b *brokenKeys, _ *providertest.KeysOptions) {
		b.unwrap = func(ctx context.Context, key string, wrapped []byte, ec provider.EncryptionContext) ([]byte, error) {
			return b.KMS.UnwrapKey(ctx, key, wrapped[:min(len(wrapped), 64)], ec)
		}
	}, []string{"keys/changed"}},
	{"loses what it wrapped before a rotation", func(b *brokenKeys, o *providertest.KeysOptions) {
		o.Rotate = func(context.Context) error {
			b.Destroy("key/1")
			*b.KMS = *providertest.NewKMS("east", "key/1", "key/2")
			return nil
		}
	}, []string{"keys/rotated"}},
	{"unwraps for everybody", func(b *brokenKeys, o *providertest.KeysOptions) {
		o.WrapOnly = func() (providertest.KeyService, error) { return b, nil }
	}, []string{"keys/wrap-only"}},
	{"looks at the bytes before the permission", func(b *brokenKeys, o *providertest.KeysOptions) {
		o.WrapOnly = func() (providertest.KeyService, error) {
			only := &brokenKeys{KMS: b.KMS, wrap: b.wrap}
			only.unwrap = func(ctx context.Context, key string, wrapped []byte, ec provider.EncryptionContext) ([]byte, error) {
				if _, err := b.KMS.UnwrapKey(ctx, key, wrapped, ec); err != nil {
					return nil, err
				}
				return b.WrapOnly().UnwrapKey(ctx, key, wrapped, ec)
			}
			return only, nil
		}
	}, []string{"keys/wrap-only"}},
	{"takes an outage for a missing key", func(b *brokenKeys, o *providertest.KeysOptions) {
		o.Down = func() { b.Down(provider.ErrNotFound) }
	}, []string{"keys/down"}},
	{"does not notice that the context has ended", func(b *brokenKeys, _ *providertest.KeysOptions) {
		b.wrap = func(ctx context.Context, key string, secret []byte, ec provider.EncryptionContext) ([]byte, error) {
			return b.KMS.WrapKey(context.WithoutCancel(ctx), key, secret, ec)
		}
	}, []string{"keys/cancelled"}},
	{"keeps one secret for all calls", func(b *brokenKeys, _ *providertest.KeysOptions) {
		var mu sync.Mutex
		var last []byte
		var all sync.WaitGroup
		all.Add(8)
		b.wrap = func(ctx context.Context, key string, secret []byte, ec provider.EncryptionContext) ([]byte, error) {
			if _, parallel := ec["part"]; !parallel || len(ec) != 1 {
				return b.KMS.WrapKey(ctx, key, secret, ec)
			}
			mu.Lock()
			last = secret
			mu.Unlock()
			all.Done()
			all.Wait() // the others write last meanwhile
			return b.KMS.WrapKey(ctx, key, last, ec)
		}
	}, []string{"keys/parallel"}},
	{"tells the secret in its error", func(b *brokenKeys, _ *providertest.KeysOptions) {
		b.wrap = func(ctx context.Context, key string, secret []byte, ec provider.EncryptionContext) ([]byte, error) {
			w, err := b.KMS.WrapKey(ctx, key, secret, ec)
			if err != nil && len(secret) != 32 {
				err = &provider.Error{Op: "wrap key", Provider: "x", Key: key, Err: fmt.Errorf("bad secret %x", secret)}
			}
			return w, err
		}
	}, []string{"keys/error"}},
	{"returns bare errors", func(b *brokenKeys, _ *providertest.KeysOptions) {
		b.unwrap = func(ctx context.Context, key string, wrapped []byte, ec provider.EncryptionContext) ([]byte, error) {
			secret, err := b.KMS.UnwrapKey(ctx, key, wrapped, ec)
			if e, ok := errors.AsType[*provider.Error](err); ok {
				err = e.Err
			}
			return secret, err
		}
	}, []string{"keys/error"}},
	{"unwraps something else", func(b *brokenKeys, _ *providertest.KeysOptions) {
		b.unwrap = func(ctx context.Context, key string, wrapped []byte, ec provider.EncryptionContext) ([]byte, error) {
			secret, err := b.KMS.UnwrapKey(ctx, key, wrapped, ec)
			if len(ec) == 1 && ec["repository"] == "a" {
				secret[7] ^= 1
			}
			return secret, err
		}
	}, []string{"keys/round-trip"}},
}

func withContext(b *brokenKeys, change func(provider.EncryptionContext) provider.EncryptionContext) (wrapFunc, unwrapFunc) {
	return func(ctx context.Context, key string, secret []byte, ec provider.EncryptionContext) ([]byte, error) {
			return b.KMS.WrapKey(ctx, key, secret, change(ec))
		}, func(ctx context.Context, key string, wrapped []byte, ec provider.EncryptionContext) ([]byte, error) {
			return b.KMS.UnwrapKey(ctx, key, wrapped, change(ec))
		}
}

func withError(b *brokenKeys, from, to error) (wrapFunc, unwrapFunc) {
	swap := func(err error, key string) error {
		if errors.Is(err, from) {
			return &provider.Error{Op: "key", Provider: "x", Key: key, Err: to}
		}
		return err
	}
	return func(ctx context.Context, key string, secret []byte, ec provider.EncryptionContext) ([]byte, error) {
			w, err := b.KMS.WrapKey(ctx, key, secret, ec)
			return w, swap(err, key)
		}, func(ctx context.Context, key string, wrapped []byte, ec provider.EncryptionContext) ([]byte, error) {
			s, err := b.KMS.UnwrapKey(ctx, key, wrapped, ec)
			return s, swap(err, key)
		}
}

// The suite names the clauses that each broken service breaks and no others,
// and no clause is one that cannot fail.
func TestBrokenKeys(t *testing.T) {
	found := map[string]bool{}
	for _, c := range brokenKeyServices {
		for _, id := range c.fails {
			found[id] = true
		}
		t.Run(c.name, func(t *testing.T) {
			kms := providertest.NewKMS("east", "key/1", "key/2")
			b := &brokenKeys{KMS: kms, wrap: kms.WrapKey, unwrap: kms.UnwrapKey}
			o := keysOptions(kms)
			o.WrapOnly = func() (providertest.KeyService, error) {
				return &brokenKeys{KMS: kms, wrap: b.WrapKey, unwrap: kms.WrapOnly().UnwrapKey}, nil
			}
			c.apply(b, &o)
			report := providertest.CheckKeys(t.Context(), b, o)
			got, want := report.Failed(), slices.Clone(c.fails)
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("fails %q\n want %q\n%v", got, want, report.Err())
			}
		})
	}
	kms := providertest.NewKMS("east", "key/1")
	for _, r := range providertest.CheckKeys(t.Context(), kms, keysOptions(kms)).Results {
		if !found[r.ID] {
			t.Errorf("no broken service fails %s", r.ID)
		}
	}
}
