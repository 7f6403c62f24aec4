package fakegcp

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// SetPolicy gives a snapshot a policy of IAM, as somebody else would.
func (c *Compute) SetPolicy(snapshot string, policy map[string]any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.snapshots[snapshot].setPolicy(policy)
}

// Policy is that of a snapshot.
func (c *Compute) Policy(snapshot string) map[string]any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.snapshots[snapshot].getPolicy()
}

func (s *snapshotState) setPolicy(policy map[string]any) {
	s.policy, _ = json.Marshal(policy)
	s.changes++
}

func (s *snapshotState) getPolicy() map[string]any {
	policy := map[string]any{}
	json.Unmarshal(s.policy, &policy)
	policy["etag"] = base64.StdEncoding.EncodeToString(fmt.Append(nil, "etag ", s.changes))
	return policy
}

// policy answers for that of a snapshot, which is set only if its etag is the
// present one.
func (c *Compute) policy(r *Request) (any, *Fault) {
	s := c.snapshots[r.Parts["resource"]]
	if s == nil {
		return nil, missing("global/snapshots/" + r.Parts["resource"])
	}
	if strings.HasSuffix(r.Method, ".getIamPolicy") {
		if v := r.URL.Query().Get("optionsRequestedPolicyVersion"); v != "3" {
			c.t.Errorf("a policy is asked for in version %q, which has no conditions", v)
		}
		return s.getPolicy(), nil
	}
	wanted, _ := r.decode()["policy"].(map[string]any)
	bindings, _ := wanted["bindings"].([]any)
	for _, b := range bindings {
		b := b.(map[string]any)
		members, _ := b["members"].([]any)
		if len(members) == 0 || b["role"] == "" {
			return nil, faultf(http.StatusBadRequest, "invalid", "", "Invalid value for field 'policy.bindings'.")
		}
		for i, m := range members {
			members[i] = strings.ToLower(m.(string))
			if kind, of, ok := strings.Cut(m.(string), ":"); ok {
				members[i] = kind + ":" + strings.ToLower(of)
			}
		}
		if _, ok := b["condition"]; ok && wanted["version"] != 3.0 {
			return nil, faultf(http.StatusBadRequest, "invalid", "", "A policy with conditions has version 3.")
		}
	}
	switch etag := wanted["etag"]; {
	case etag == nil:
		c.t.Error("a policy is set without an etag")
	case etag != s.getPolicy()["etag"]:
		return nil, faultf(http.StatusPreconditionFailed, "conditionNotMet", "", "Supplied etag does not match the current one.")
	}
	delete(wanted, "etag")
	s.setPolicy(wanted)
	return s.getPolicy(), nil
}
