package postgres_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/provider"
)

// oldServer answers as a server of some version does, for as long as a test
// takes, and returns how to connect to it.
func oldServer(t *testing.T, version string, number int) (conn string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	shows := map[string]string{"SHOW server_version_num": fmt.Sprint(number), "SHOW block_size": "8192", "SHOW data_checksums": "on", "SHOW wal_segment_size": "16MB", "SHOW wal_level": "replica"}
	serve := func(c net.Conn) error {
		defer c.Close()
		b := pgproto3.NewBackend(c, c)
		if _, err := b.ReceiveStartupMessage(); err != nil {
			return err
		}
		b.Send(&pgproto3.AuthenticationOk{})
		b.Send(&pgproto3.ParameterStatus{Name: "server_version", Value: version})
		for {
			b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			if err := b.Flush(); err != nil {
				return err
			}
			m, err := b.Receive()
			if err != nil {
				return err
			}
			q, ok := m.(*pgproto3.Query)
			if !ok {
				return nil
			}
			values := []string{shows[q.String]}
			switch {
			case q.String == "IDENTIFY_SYSTEM":
				values = []string{"7000000000000000001", "1", "0/3000000", ""}
			case values[0] == "":
				b.Send(&pgproto3.ErrorResponse{Severity: "ERROR", Code: "42601", Message: "syntax error: it is too new for me: " + q.String})
				continue
			}
			var row pgproto3.RowDescription
			var data pgproto3.DataRow
			for i, v := range values {
				row.Fields = append(row.Fields, pgproto3.FieldDescription{Name: []byte(fmt.Sprint(i)), DataTypeOID: 25, DataTypeSize: -1, TypeModifier: -1})
				data.Values = append(data.Values, []byte(v))
			}
			b.Send(&row)
			b.Send(&data)
			b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
		}
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return fmt.Sprintf("host=127.0.0.1 port=%d user=backup dbname=postgres sslmode=disable", l.Addr().(*net.TCPAddr).Port)
}

// Servers before 15 stream base backups in another form, and are refused before
// one is begun, by backup and receiver.
func TestOldServer(t *testing.T) {
	for version, number := range map[string]int{"14.11": 140011, "9.6.24": 90624} {
		conn := oldServer(t, version, number)
		repo, store := newRepository(t)
		_, err := repo.Backup(t.Context(), "db", newTarget(t, postgres.Config{Conn: conn}), backup.BackupOptions{})
		for _, want := range []string{"version " + version, "want 15 or later", "package logical"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("backup: %q is not in %v", want, err)
			}
		}
		for p, err := range repo.Points(t.Context(), "") {
			t.Errorf("there is a point: %v, %v", p.ID, err)
		}
		x := receive(t, postgres.ReceiverConfig{Conn: conn, Repositories: []*backup.Repository{repo}})
		until(t, "refused", x, func(s postgres.Status) bool { // and asked again: it may be upgraded
			return s.Err != nil && strings.Contains(s.Err.Error(), fmt.Sprintf("version %q: want 15", version))
		})
		x.stop(t)
		for info, err := range store.List(t.Context(), "logs/", provider.ListOptions{}) {
			t.Errorf("there is %s, %v", info.Key, err)
		}
	}
	// One that is new enough gets as far as the backup.
	conn := oldServer(t, "15.0", 150000)
	repo, _ := newRepository(t)
	if _, err := repo.Backup(t.Context(), "db", newTarget(t, postgres.Config{Conn: conn}), backup.BackupOptions{}); err == nil || !strings.Contains(err.Error(), "too new for me") {
		t.Errorf("15.0: %v", err)
	}
}
