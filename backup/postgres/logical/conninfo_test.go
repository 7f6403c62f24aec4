package logical

import (
	"slices"
	"strings"
	"testing"
)

func TestConninfo(t *testing.T) {
	for in, want := range map[string]string{
		"":                                "",
		"host=db1 user=ann":               "host='db1' user='ann'",
		" host = 'a b'\tuser='o\\'neil' ": `host='a b' user='o\'neil'`,
		`host=a\ b port=`:                 `host='a b' port=''`,
		"host=a host=b":                   "host='b'",
		"postgres://ann@db1:5433/shop?sslmode=require":                 "user='ann' host='db1' port='5433' dbname='shop' sslmode='require'",
		"postgresql://db1,db2:1,[::1]:2/?target_session_attrs=primary": "host='db1,db2,::1' port=',1,2' target_session_attrs='primary'",
		"postgres:///a%20b?host=%2Frun%2Fpg":                           "dbname='a b' host='/run/pg'",
	} {
		c, err := parseConninfo(in)
		if err != nil || c.String() != want {
			t.Errorf("%q: %s, %v, want %s", in, c, err, want)
		}
	}
	for in, want := range map[string]string{
		"host=a password=hush":                     "passfile",
		"host=a password='hush'":                   "passfile",
		"PASSWORD=hush host=a":                     "unknown",
		"postgres://ann:hush@db1/shop":             "passfile",
		"postgres://ann@db1/shop?password=hush":    "passfile",
		"postgres://ann@db1/shop?sslpassword=hush": "passfile",
		"postgres://ann:%zzhush@db1":               "no URL",
		"host=a sslcrl=hush":                       "sslcrl",
		"host='a hush":                             "not closed",
		"hush":                                     "want",
		"a'b=hush":                                 "want",
		"postgres://db1/?hush":                     "no URL",
		"host=a\x00hush":                           "zero",
	} {
		_, err := parseConninfo(in)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: %v, want %s and no secret", in, err, want)
		}
	}
	// An error must not be without a test for it here.
	if _, err := New(Config{Conn: "host=a password=hush"}); err == nil || !strings.Contains(err.Error(), "field Conn") || strings.Contains(err.Error(), "hush") {
		t.Error(err)
	}
}

// A name that looks like a connection string stays a name.
func TestNameIsNoConninfo(t *testing.T) {
	c, err := parseConninfo("host=db1 dbname=postgres")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"host=evil", "postgres://evil/x", `a' host='evil`, `a\' host=\'evil`, "-x", ""} {
		again, err := parseConninfo(c.with("dbname", name).String())
		if err != nil || again.get("dbname") != name || again.get("host") != "db1" || len(again) != 2 {
			t.Errorf("%q is read as %s, %v", name, again, err)
		}
	}
}

func FuzzConninfo(f *testing.F) {
	for _, s := range []string{"host=a user='b c'", "postgres://u@h:1/d?sslmode=require", `host=\\ user=''`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseConninfo(s)
		if err != nil {
			return
		}
		again, err := parseConninfo(c.String())
		if err != nil || !slices.Equal(c, again) {
			t.Errorf("%q is %s, which is read as %s, %v", s, c, again, err)
		}
	})
}

func TestNames(t *testing.T) {
	long := strings.Repeat("ü", 31) // 62 bytes
	for _, name := range []string{"a", long, long[:60]} {
		for _, kind := range []string{isNew, isOld, isDrop} {
			n := ourName(name, kind)
			if len(n) > maxName || !isOurs(n) || !strings.HasPrefix(n, tag(name, kind)) || strings.ToValidUTF8(n, "?") != n {
				t.Errorf("%q (%s): %q", name, kind, n)
			}
		}
	}
	if tag(long, isNew) == tag(long[:60], isNew) {
		t.Error("two long names have one tag")
	}
	for _, n := range []string{"shop", "x.holdfast-new-0123456789ab.", "x.holdfast-new-0123456789a", "x.holdfast-cut-0123456789ab"} {
		if isOurs(n) {
			t.Errorf("%q is taken for ours", n)
		}
	}
}

func TestAssignment(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"search_path", `"$user", public, "a ""b"`, `"search_path" TO '$user', 'public', 'a "b'`},
		{"search_path", `""`, `"search_path" TO ''`},
		{"work_mem", "4MB", `"work_mem" TO '4MB'`},
		{"my.own", `it's \ "x", y`, `"my.own" TO  E'it''s \\ "x", y'`},
	} {
		if got := (roleSetting{Name: c.name, Value: c.value}).assignment(); got != c.want {
			t.Errorf("%s=%s: %s, want %s", c.name, c.value, got, c.want)
		}
	}
}

// What a program says is told without the statements and rows it repeats.
func TestComplaints(t *testing.T) {
	c := &complaints{name: "pg_restore"}
	for _, s := range []string{
		"pg_restore: while PROCESSING TOC:\npg_restore: from TOC entry 1; 2 3 USER MAPPING x\npg_restore: error: could not execute query: ERROR:  ro",
		"le \"bob\" does not exist\nDETAIL: Key (id)=(hush)\nCommand was: CREATE USER MAPPING OPTIONS (password 'hush');\npg_restore: detail: Command was: hush\n",
	} {
		c.Write([]byte(s))
	}
	err := c.explain(t.Context(), errOfProgram)
	if !strings.Contains(err.Error(), `role "bob" does not exist`) || strings.Contains(err.Error(), "hush") {
		t.Error(err)
	}
}
