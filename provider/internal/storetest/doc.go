// Package storetest is what the tests of all stores share beyond the suite of
// package providertest: races between processes, what lives in a store (a
// repository, a lease, a journal), stores that must be refused, long listings,
// and the record of what each store says to the suite, of which
// provider/CONFORMANCE.md is made. Only tests import it.
package storetest
