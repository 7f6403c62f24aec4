package providertest_test

import (
	"context"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// pause gives racing calls the time to run into each other, in the time of
// their bubble.
func pause() { time.Sleep(time.Millisecond) }

type listFunc = func(context.Context, string, provider.ListOptions) iter.Seq2[provider.Info, error]

// changed makes a store list something else than it should.
func changed(b *broken, change func([]provider.Info) []provider.Info) listFunc {
	return func(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
		return func(yield func(provider.Info, error) bool) {
			var infos []provider.Info
			for info, err := range b.good.List(ctx, prefix, o) {
				if err != nil {
					yield(provider.Info{}, err)
					return
				}
				infos = append(infos, info)
			}
			for _, info := range change(infos) {
				if !yield(info, nil) {
					return
				}
			}
		}
	}
}

func firsts(seq iter.Seq2[provider.Info, error]) iter.Seq[provider.Info] {
	return func(yield func(provider.Info) bool) {
		for info := range seq {
			if !yield(info) {
				return
			}
		}
	}
}

var brokenLists = []breakage{
	{"lists in the order of a directory walk", func(b *broken) {
		b.list = changed(b, func(infos []provider.Info) []provider.Info {
			slices.SortStableFunc(infos, func(x, y provider.Info) int {
				return slices.Compare(strings.Split(x.Key, "/"), strings.Split(y.Key, "/"))
			})
			return infos
		})
	}, []string{"blob/list-beside", "blob/list-order"}},

	{"lists what it held a moment ago", func(b *broken) {
		var mu sync.Mutex
		var earlier []provider.Info
		b.list = func(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
			return func(yield func(provider.Info, error) bool) {
				mu.Lock()
				stale := earlier
				earlier = nil
				for info := range b.good.List(ctx, "", provider.ListOptions{}) {
					earlier = append(earlier, info)
				}
				mu.Unlock()
				if err := ctx.Err(); err != nil {
					yield(provider.Info{}, err)
					return
				}
				for _, info := range stale {
					if strings.HasPrefix(info.Key, prefix) && info.Key > o.StartAfter && !yield(info, nil) {
						return
					}
				}
			}
		}
	}, []string{"blob/get-empty", "blob/keys-beside", "blob/keys-odd", "blob/keys-plain", "blob/list-beside", "blob/list-break", "blob/list-meanwhile", "blob/list-order", "blob/list-pages", "blob/list-prefix", "blob/list-start-after", "blob/list-writes", "blob/put-replace"}},

	{"drops the first key of the second page", func(b *broken) {
		b.list = changed(b, func(infos []provider.Info) []provider.Info {
			if len(infos) > 1000 {
				infos = slices.Delete(infos, 1000, 1001)
			}
			return infos
		})
	}, []string{"blob/list-pages"}},

	{"lists the last key of a page twice", func(b *broken) {
		b.list = changed(b, func(infos []provider.Info) []provider.Info {
			if len(infos) > 1000 {
				infos = slices.Insert(infos, 1000, infos[999])
			}
			return infos
		})
	}, []string{"blob/list-pages"}},

	{"lists StartAfter itself", func(b *broken) {
		b.list = func(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
			if n := len(o.StartAfter); n > 0 {
				if _, err := b.good.Stat(ctx, o.StartAfter); err == nil {
					o.StartAfter = o.StartAfter[:n-1] + string(o.StartAfter[n-1]-1) + "\U0010ffff"
				}
			}
			return b.good.List(ctx, prefix, o)
		}
	}, []string{"blob/list-pages", "blob/list-start-after"}},

	{"takes a prefix for whole segments", func(b *broken) {
		b.list = func(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
			return func(yield func(provider.Info, error) bool) {
				for info, err := range b.good.List(ctx, prefix, o) {
					whole := prefix == "" || strings.HasSuffix(prefix, "/") || info.Key == prefix || strings.HasPrefix(info.Key, prefix+"/")
					if (whole || err != nil) && !yield(info, err) {
						return
					}
				}
			}
		}
	}, []string{"blob/list-pages", "blob/list-prefix", "blob/list-start-after"}},

	{"goes on after a break", func(b *broken) {
		b.list = func(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
			return func(yield func(provider.Info, error) bool) {
				for info, err := range b.good.List(ctx, prefix, o) {
					yield(info, err)
				}
			}
		}
	}, []string{"blob/list-break"}},

	{"goes on after an error", func(b *broken) {
		b.list = func(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
			return func(yield func(provider.Info, error) bool) {
				if err := ctx.Err(); err != nil && !yield(provider.Info{}, err) {
					return
				}
				for info, err := range b.good.List(context.WithoutCancel(ctx), prefix, o) {
					if !yield(info, err) {
						return
					}
				}
			}
		}
	}, []string{"blob/list-error"}},

	{"skips as many keys as are deleted meanwhile", func(b *broken) {
		// Pages by position instead of by key.
		b.list = func(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
			return func(yield func(provider.Info, error) bool) {
				const page = 10
				for at := 0; ; at += page {
					infos := slices.Collect(firsts(b.good.List(ctx, prefix, o)))
					if err := ctx.Err(); err != nil {
						yield(provider.Info{}, err)
						return
					}
					for _, info := range infos[min(at, len(infos)):min(at+page, len(infos))] {
						if !yield(info, nil) {
							return
						}
					}
					if at >= len(infos) {
						return
					}
				}
			}
		}
	}, []string{"blob/list-meanwhile"}},

	{"lists sizes of zero", func(b *broken) {
		b.list = changed(b, func(infos []provider.Info) []provider.Info {
			for i := range infos {
				infos[i].Size = 0
			}
			return infos
		})
	}, []string{"blob/list-info"}},
}
