package providertest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

const dnsZone = "example.test."

func TestMemoryDNS(t *testing.T) {
	providertest.TestDNSProvider(t, func(*testing.T) provider.DNSProvider {
		return providertest.NewMemoryDNS(dnsZone)
	}, providertest.DNSOptions{Zone: dnsZone})
}

// Each flaw is found, by the clauses that are about it.
func TestCheckDNSFindsFlaws(t *testing.T) {
	current := func(ctx context.Context, d provider.DNSProvider, c provider.Change) *provider.RecordSet {
		rs := c.New
		if rs == nil {
			rs = c.Old
		}
		if rs == nil {
			return nil
		}
		now, err := d.Get(ctx, rs.Name, rs.Type)
		if err != nil {
			return nil
		}
		return &now
	}
	for _, flaw := range []struct {
		name string
		want []string // clauses that must fail, perhaps among others
		make func(d provider.DNSProvider) flawedDNS
	}{
		{"upsert: Old is not looked at", []string{"dns/create", "dns/old-values", "dns/old-ttl", "dns/old-gone", "dns/zone-conflict", "dns/create-race"},
			func(d provider.DNSProvider) flawedDNS {
				var mu sync.Mutex
				return flawedDNS{DNSProvider: d, swap: func(ctx context.Context, changes []provider.Change) (provider.ChangeRef, error) {
					mu.Lock()
					defer mu.Unlock()
					changes = slices.Clone(changes)
					for i, c := range changes {
						changes[i].Old = current(ctx, d, c)
						if changes[i].Old == nil && changes[i].New == nil {
							return d.Swap(ctx)
						}
					}
					return d.Swap(ctx, changes...)
				}}
			}},
		{"look, then write", []string{"dns/create-race", "dns/replace-race", "dns/zone-race"},
			func(d provider.DNSProvider) flawedDNS {
				return flawedDNS{DNSProvider: d, swap: func(ctx context.Context, changes []provider.Change) (provider.ChangeRef, error) {
					ref, err := d.Swap(ctx, changes...)
					if !errors.Is(err, provider.ErrConflict) {
						time.Sleep(20 * time.Millisecond) // it holds now; the write comes later
						return ref, err
					}
					for _, c := range changes {
						if now := current(ctx, d, c); now == nil || !strings.Contains(now.Values[0], "racer") {
							return ref, err
						}
					}
					return "memory/1", nil // and overwrites
				}}
			}},
		{"the TTL of Old is not looked at", []string{"dns/old-ttl", "dns/zone-conflict"},
			func(d provider.DNSProvider) flawedDNS {
				return flawedDNS{DNSProvider: d, swap: func(ctx context.Context, changes []provider.Change) (provider.ChangeRef, error) {
					changes = slices.Clone(changes)
					for i, c := range changes {
						if now := current(ctx, d, c); now != nil && c.Old != nil {
							old := *c.Old
							old.TTL = now.TTL
							changes[i].Old = &old
						}
					}
					return d.Swap(ctx, changes...)
				}}
			}},
		{"changes are applied one by one", []string{"dns/zone-conflict"},
			func(d provider.DNSProvider) flawedDNS {
				return flawedDNS{DNSProvider: d, swap: func(ctx context.Context, changes []provider.Change) (ref provider.ChangeRef, err error) {
					if len(changes) == 0 {
						return d.Swap(ctx)
					}
					for _, c := range changes {
						if ref, err = d.Swap(ctx, c); err != nil {
							return ref, err
						}
					}
					return ref, nil
				}}
			}},
		{"only the first change is applied", []string{"dns/zone", "dns/zone-race"},
			func(d provider.DNSProvider) flawedDNS {
				return flawedDNS{DNSProvider: d, swap: func(ctx context.Context, changes []provider.Change) (provider.ChangeRef, error) {
					return d.Swap(ctx, changes[:min(1, len(changes))]...)
				}}
			}},
		{"removal does nothing", []string{"dns/remove"},
			func(d provider.DNSProvider) flawedDNS {
				return flawedDNS{DNSProvider: d, swap: func(ctx context.Context, changes []provider.Change) (provider.ChangeRef, error) {
					changes = slices.Clone(changes)
					for i, c := range changes {
						if c.New == nil {
							changes[i].New = c.Old
						}
					}
					return d.Swap(ctx, changes...)
				}}
			}},
		{"every change of the zone is a conflict to the others", []string{"dns/independent"},
			func(d provider.DNSProvider) flawedDNS {
				var mu sync.Mutex
				return flawedDNS{DNSProvider: d, swap: func(ctx context.Context, changes []provider.Change) (provider.ChangeRef, error) {
					if !mu.TryLock() {
						return "", &provider.Error{Op: "swap", Provider: "x", Key: "x", Err: provider.ErrConflict}
					}
					defer mu.Unlock()
					time.Sleep(time.Millisecond)
					return d.Swap(ctx, changes...)
				}}
			}},
		{"other types of the name are lost", []string{"dns/others", "dns/get-types"},
			func(d provider.DNSProvider) flawedDNS {
				return flawedDNS{DNSProvider: d, swap: func(ctx context.Context, changes []provider.Change) (provider.ChangeRef, error) {
					ref, err := d.Swap(ctx, changes...)
					for _, c := range changes {
						for _, typ := range []string{"A", "AAAA", "TXT"} {
							if err == nil && c.New != nil && c.New.Type != typ {
								if rs, err := d.Get(ctx, c.New.Name, typ); err == nil {
									d.Swap(ctx, provider.Change{Old: &rs})
								}
							}
						}
					}
					return ref, err
				}}
			}},
		{"a record beside a CNAME is ignored in silence", []string{"dns/forbidden"},
			func(d provider.DNSProvider) flawedDNS {
				return flawedDNS{DNSProvider: d, swap: func(ctx context.Context, changes []provider.Change) (provider.ChangeRef, error) {
					ref, err := d.Swap(ctx, changes...)
					if err != nil && strings.Contains(err.Error(), "beside a CNAME") {
						return "memory/1", nil
					}
					return ref, err
				}}
			}},
		{"fractions of a TTL are cut off", []string{"dns/malformed"},
			func(d provider.DNSProvider) flawedDNS {
				return flawedDNS{DNSProvider: d, swap: func(ctx context.Context, changes []provider.Change) (provider.ChangeRef, error) {
					changes = slices.Clone(changes)
					for i, c := range changes {
						if c.New != nil {
							rs := *c.New
							rs.TTL = rs.TTL.Truncate(time.Second)
							changes[i].New = &rs
						}
					}
					return d.Swap(ctx, changes...)
				}}
			}},
		{"a value twice is one", []string{"dns/malformed"},
			func(d provider.DNSProvider) flawedDNS {
				return flawedDNS{DNSProvider: d, swap: withNew(d, func(rs *provider.RecordSet) { rs.Values = slices.Compact(rs.Values) })}
			}},
		{"names are written small in silence", []string{"dns/malformed"},
			func(d provider.DNSProvider) flawedDNS {
				return flawedDNS{DNSProvider: d, swap: withNew(d, func(rs *provider.RecordSet) { rs.Name = strings.ToLower(rs.Name) })}
			}},
		{"values stay as they were written", []string{"dns/get-canonical"},
			func(d provider.DNSProvider) flawedDNS {
				var mu sync.Mutex
				written := map[string]string{}
				return flawedDNS{DNSProvider: d, swap: withNew(d, func(rs *provider.RecordSet) {
					mu.Lock()
					defer mu.Unlock()
					for i, v := range rs.Values {
						if small := strings.ToLower(v); small != v && rs.Type == "CNAME" {
							rs.Values[i], written[rs.Name] = small, v
						}
					}
				}), get: func(ctx context.Context, name, typ string) (provider.RecordSet, error) {
					mu.Lock()
					defer mu.Unlock()
					rs, err := d.Get(ctx, name, typ)
					if v := written[name]; v != "" && err == nil {
						rs.Values[0] = v
					}
					return rs, err
				}}
			}},
		{"hosts of other types lose their dot", []string{"dns/get-more-types"},
			func(d provider.DNSProvider) flawedDNS {
				return flawedDNS{DNSProvider: d, get: func(ctx context.Context, name, typ string) (provider.RecordSet, error) {
					rs, err := d.Get(ctx, name, typ)
					for i, v := range rs.Values {
						if typ == "MX" {
							rs.Values[i] = strings.TrimSuffix(v, ".")
						}
					}
					return rs, err
				}}
			}},
		{"other types are errors of some kind", []string{"dns/get-more-types"},
			func(d provider.DNSProvider) flawedDNS {
				return flawedDNS{DNSProvider: d, swap: func(ctx context.Context, changes []provider.Change) (provider.ChangeRef, error) {
					for _, c := range changes {
						if c.New != nil && c.New.Type == "SRV" {
							return "", &provider.Error{Op: "swap", Provider: "x", Key: "x", Err: errors.New("no such type")}
						}
					}
					return d.Swap(ctx, changes...)
				}}
			}},
		{"several are refused only after the first is applied", []string{"dns/atomicity"},
			func(d provider.DNSProvider) flawedDNS {
				return flawedDNS{DNSProvider: d, atomicity: provider.RecordSetAtomic, swap: func(ctx context.Context, changes []provider.Change) (provider.ChangeRef, error) {
					if len(changes) > 1 {
						d.Swap(ctx, changes[0])
						return "", errors.ErrUnsupported
					}
					return d.Swap(ctx, changes...)
				}}
			}},
		{"errors are bare", []string{"dns/error-type"},
			func(d provider.DNSProvider) flawedDNS {
				return flawedDNS{DNSProvider: d, swap: func(ctx context.Context, changes []provider.Change) (provider.ChangeRef, error) {
					ref, err := d.Swap(ctx, changes...)
					if pe, ok := errors.AsType[*provider.Error](err); ok {
						err = pe.Err
					}
					return ref, err
				}}
			}},
		{"the end of a context is not heeded", []string{"dns/context"},
			func(d provider.DNSProvider) flawedDNS {
				return flawedDNS{DNSProvider: d, swap: func(ctx context.Context, changes []provider.Change) (provider.ChangeRef, error) {
					return d.Swap(context.WithoutCancel(ctx), changes...)
				}}
			}},
		{"a missing set is an empty one", []string{"dns/get-missing", "dns/remove"},
			func(d provider.DNSProvider) flawedDNS {
				return flawedDNS{DNSProvider: d, get: func(ctx context.Context, name, typ string) (provider.RecordSet, error) {
					rs, err := d.Get(ctx, name, typ)
					if errors.Is(err, provider.ErrNotFound) {
						err = nil
					}
					return rs, err
				}}
			}},
		{"a name outside is a missing one", []string{"dns/outside"},
			func(d provider.DNSProvider) flawedDNS {
				return flawedDNS{DNSProvider: d, get: func(ctx context.Context, name, typ string) (provider.RecordSet, error) {
					if !strings.HasSuffix(name, dnsZone) {
						return provider.RecordSet{}, provider.ErrNotFound
					}
					return d.Get(ctx, name, typ)
				}}
			}},
		{"values come in any order", []string{"dns/get"},
			func(d provider.DNSProvider) flawedDNS {
				return flawedDNS{DNSProvider: d, get: func(ctx context.Context, name, typ string) (provider.RecordSet, error) {
					rs, err := d.Get(ctx, name, typ)
					slices.Reverse(rs.Values)
					return rs, err
				}}
			}},
		{"text is quoted", []string{"dns/get-text", "dns/get-types"},
			func(d provider.DNSProvider) flawedDNS {
				return flawedDNS{DNSProvider: d, get: func(ctx context.Context, name, typ string) (provider.RecordSet, error) {
					rs, err := d.Get(ctx, name, typ)
					for i, v := range rs.Values {
						if typ == "TXT" {
							rs.Values[i] = `"` + v + `"`
						}
					}
					return rs, err
				}}
			}},
		{"Get is answered from a cache", []string{"dns/get-fresh", "dns/replace"},
			func(d provider.DNSProvider) flawedDNS {
				var cache sync.Map
				return flawedDNS{DNSProvider: d, get: func(ctx context.Context, name, typ string) (provider.RecordSet, error) {
					if rs, ok := cache.Load(name + typ); ok {
						return rs.(provider.RecordSet), nil
					}
					rs, err := d.Get(ctx, name, typ)
					if err == nil {
						cache.Store(name+typ, rs)
					}
					return rs, err
				}}
			}},
		{"a change is never in sync", []string{"dns/status", "dns/same"},
			func(d provider.DNSProvider) flawedDNS {
				return flawedDNS{DNSProvider: d, status: func(context.Context, provider.ChangeRef) (provider.ChangeStatus, error) {
					return provider.ChangePending, nil
				}}
			}},
		{"every reference is in sync", []string{"dns/status-unknown"},
			func(d provider.DNSProvider) flawedDNS {
				return flawedDNS{DNSProvider: d, status: func(context.Context, provider.ChangeRef) (provider.ChangeStatus, error) {
					return provider.ChangeInSync, nil
				}}
			}},
	} {
		t.Run(flaw.name, func(t *testing.T) {
			o := providertest.DNSOptions{Zone: dnsZone, Settle: 50 * time.Millisecond}
			r := providertest.CheckDNS(t.Context(), flaw.make(providertest.NewMemoryDNS(dnsZone)), o)
			for _, id := range flaw.want {
				if !slices.Contains(r.Failed(), id) {
					t.Errorf("%s does not find it; what does: %q", id, r.Failed())
				}
			}
			// A flaw is not found by everything, or the report says nothing.
			if len(r.Failed()) > len(r.Results)*2/3 {
				t.Errorf("%d of %d clauses fail:\n%v", len(r.Failed()), len(r.Results), r)
			}
		})
	}
}

// Who says that it cannot tell racing swaps apart is not asked to, and is held
// to the rest.
func TestCheckDNSNotAtomic(t *testing.T) {
	d := flawedDNS{DNSProvider: providertest.NewMemoryDNS(dnsZone), atomicity: provider.NotAtomic}
	d.swap = func(ctx context.Context, changes []provider.Change) (provider.ChangeRef, error) {
		if len(changes) > 1 {
			return "", &provider.Error{Op: "dns swap", Provider: "x", Key: "x", Err: errors.ErrUnsupported}
		}
		return d.DNSProvider.Swap(ctx, changes...)
	}
	var unsupported []string
	r := providertest.CheckDNS(t.Context(), d, providertest.DNSOptions{Zone: dnsZone})
	for _, res := range r.Results {
		if res.Outcome == providertest.Unsupported {
			unsupported = append(unsupported, res.ID)
		}
	}
	want := []string{"dns/create-race", "dns/replace-race", "dns/ttl-race", "dns/zone", "dns/zone-conflict", "dns/zone-cname", "dns/zone-race"}
	if r.Err() != nil || !slices.Equal(unsupported, want) {
		t.Errorf("unsupported %q, want %q\n%v", unsupported, want, r.Err())
	}
}

// withNew is a Swap that alters every New.
func withNew(d provider.DNSProvider, alter func(*provider.RecordSet)) func(context.Context, []provider.Change) (provider.ChangeRef, error) {
	return func(ctx context.Context, changes []provider.Change) (provider.ChangeRef, error) {
		changes = slices.Clone(changes)
		for i, c := range changes {
			if c.New != nil {
				rs := *c.New
				rs.Values = slices.Clone(rs.Values)
				alter(&rs)
				changes[i].New = &rs
			}
		}
		return d.Swap(ctx, changes...)
	}
}

// flawedDNS replaces some methods of a good provider.
type flawedDNS struct {
	provider.DNSProvider
	get       func(context.Context, string, string) (provider.RecordSet, error)
	swap      func(context.Context, []provider.Change) (provider.ChangeRef, error)
	status    func(context.Context, provider.ChangeRef) (provider.ChangeStatus, error)
	atomicity provider.Atomicity
}

func (f flawedDNS) Get(ctx context.Context, name, typ string) (provider.RecordSet, error) {
	if f.get != nil {
		return f.get(ctx, name, typ)
	}
	return f.DNSProvider.Get(ctx, name, typ)
}

func (f flawedDNS) Swap(ctx context.Context, changes ...provider.Change) (provider.ChangeRef, error) {
	if f.swap != nil {
		return f.swap(ctx, changes)
	}
	return f.DNSProvider.Swap(ctx, changes...)
}

func (f flawedDNS) Status(ctx context.Context, ref provider.ChangeRef) (provider.ChangeStatus, error) {
	if f.status != nil {
		return f.status(ctx, ref)
	}
	return f.DNSProvider.Status(ctx, ref)
}

func (f flawedDNS) Atomicity() provider.Atomicity {
	if f.atomicity != "" {
		return f.atomicity
	}
	return f.DNSProvider.Atomicity()
}

func TestCheckDNSOptions(t *testing.T) {
	d := providertest.NewMemoryDNS(dnsZone)
	if r := providertest.CheckDNS(t.Context(), d, providertest.DNSOptions{Zone: "example.test"}); r.Err() == nil {
		t.Error("a zone without the final dot is accepted")
	}
	r := providertest.CheckDNS(t.Context(), d, providertest.DNSOptions{Zone: dnsZone, Only: []string{"dns/get", "dns/remove"}})
	if r.Err() != nil || len(r.Results) != 2 || len(r.Left) != 0 {
		t.Errorf("%v", r)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, res := range providertest.CheckDNS(ended, d, providertest.DNSOptions{Zone: dnsZone}).Results {
		if res.Outcome != providertest.Skipped {
			t.Errorf("%s is %s after the end of its context", res.ID, res.Outcome)
		}
	}
}
