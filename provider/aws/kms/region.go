package kms

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/holdfast-go/holdfast/provider"
)

// A region is where a key is asked for, and how it is named there.
type region struct{ name, key string }

func (r region) option(o *kms.Options) { o.Region = r.name }

// regions lists where the key is, in the order of asking.
func (k *Keys) regions(key string) ([]region, error) {
	if key == "" {
		return nil, errors.New("the name of the key is empty")
	}
	named := func(string) string { return key }
	first, resource := k.region, "key/"+key
	if arn.IsARN(key) {
		a, err := arn.Parse(key)
		if err != nil || a.Service != "kms" || a.Region == "" {
			return nil, fmt.Errorf("%q is not the ARN of a key", key)
		}
		first, resource = a.Region, a.Resource
		named = func(region string) string {
			a.Region = region
			return a.String()
		}
	}
	all := []region{{first, key}}
	if strings.HasPrefix(resource, "key/mrk-") {
		for _, name := range k.c.Replicas {
			if !slices.ContainsFunc(all, func(r region) bool { return r.name == name }) {
				all = append(all, region{name, named(name)})
			}
		}
	}
	return all, nil
}

// inRegions calls f for each region of the key until one gives an answer that
// no other region could change.
func (k *Keys) inRegions(ctx context.Context, key string, f func(context.Context, region) error) error {
	all, err := k.regions(key)
	if err != nil {
		return err
	}
	var failed failures
	for _, in := range all {
		err := k.within(ctx, len(all) > 1, func(ctx context.Context) error { return f(ctx, in) })
		if err == nil || errors.Is(err, provider.ErrWrongKey) || wrongKey(err) { // replicas have the same material
			return err
		}
		failed = append(failed, failure{in.name, err})
		if ctx.Err() != nil {
			break
		}
	}
	return failed.err()
}

func (k *Keys) within(ctx context.Context, limited bool, f func(context.Context) error) error {
	if limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, k.c.Timeout)
		defer cancel()
	}
	return f(ctx)
}

type failure struct {
	region string
	err    error
}

type failures []failure

// err is the failure that says most about the key: it is only gone if it is
// gone everywhere, and only forbidden if no region is out of reach. What the
// other regions said is in the text, and not in the chain.
func (all failures) err() error {
	rank := func(f failure) int {
		switch meaning(f.err) {
		case provider.ErrNotFound:
			return 2
		case fs.ErrPermission:
			return 1
		}
		return 0
	}
	if len(all) == 1 {
		return fmt.Errorf("%s: %w", all[0].region, all[0].err)
	}
	slices.SortStableFunc(all, func(a, b failure) int { return rank(a) - rank(b) })
	err := fmt.Errorf("%s: %w", all[0].region, all[0].err)
	for _, f := range all[1:] {
		err = fmt.Errorf("%w; %s: %v", err, f.region, f.err)
	}
	return err
}
