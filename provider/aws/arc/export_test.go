package arc

import "time"

// SetSettle is for tests that wait for what never comes.
func (s *Controls) SetSettle(d time.Duration) { s.service.Settle = d }

// Begin has the next call begin with an endpoint.
func (s *Controls) Begin(endpoint int) { s.turns.Begin(endpoint) }
