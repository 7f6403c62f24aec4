package mrap

import "time"

// SetSettle is for tests that wait for what never comes.
func (a *AccessPoint) SetSettle(d time.Duration) { a.service.Settle = d }

// Begin has the next call begin with a region of Ask.
func (a *AccessPoint) Begin(region int) { a.turns.Begin(region) }
