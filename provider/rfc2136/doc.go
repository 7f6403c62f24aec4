package rfc2136
