package postgres_test

import (
	"testing"

	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/internal/testenv"
)

// Another full backup stores what has changed: pages, not files.
func TestSecondFullStoresChangedPages(t *testing.T) {
	t.Parallel()
	p := testenv.Postgres(t, 17, testenv.PostgresOptions{})
	p.SQL(t, "create table t (id int primary key, n int, filler text) with (fillfactor = 80)",
		"insert into t select n, 0, md5(n::text) || md5((n + 1)::text) || md5((n + 2)::text) from generate_series(1, 100000) n", "vacuum freeze t", "checkpoint")
	repo, _ := newRepository(t)
	target := newTarget(t, postgres.Config{Conn: p.Conn})
	first := backUp(t, repo, target)
	// One row in a hundred, in one page in about eighty.
	p.SQL(t, "update t set n = 1 where id between 1000 and 1999")
	second := backUp(t, repo, target)
	t.Logf("first %+v, second %+v", first.Stats, second.Stats)
	if first.Stats.Bytes < 30<<20 || second.Stats.BytesRead < first.Stats.BytesRead {
		t.Fatal("this tests nothing: the first backup is too small, or the second has not read all")
	}
	if n := second.Stats.BytesNew; n > first.Stats.Bytes/20 || second.Stats.BytesStored > first.Stats.BytesStored/10 {
		t.Errorf("of the second full backup %d bytes are new", n)
	}
}
