package remote

import (
	"fmt"

	"github.com/holdfast-go/holdfast/provider"
)

// CheckWarm refuses what no store takes.
func CheckWarm(o provider.WarmOptions) error {
	if o.Days < 0 {
		return fmt.Errorf("warm: Days is %d", o.Days)
	}
	return nil
}
