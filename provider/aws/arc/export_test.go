package arc

import "time"

// SetSettle is for tests that wait for what never comes.
func (s *Controls) SetSettle(d time.Duration) { s.service.Settle = d }
