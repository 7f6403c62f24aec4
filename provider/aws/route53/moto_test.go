package route53_test

import (
	"testing"

	"github.com/holdfast-go/holdfast/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func moto(t testing.TB) string { return testenv.StartMoto(t).Endpoint }
