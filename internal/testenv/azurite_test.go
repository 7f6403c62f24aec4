package testenv_test

import (
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"

	"github.com/holdfast-go/holdfast/internal/testenv"
)

func TestAzurite(t *testing.T) {
	s := testenv.Azurite(t)
	name := s.NewContainer(t)
	if _, err := s.Client(t, name).GetProperties(t.Context(), nil); err != nil {
		t.Error(err)
	}
	may, err := container.NewClientWithNoCredential(s.Endpoint+"/"+name+"?"+s.SAS(t, name, sas.ContainerPermissions{List: true}), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := may.NewListBlobsFlatPager(nil).NextPage(t.Context()); err != nil {
		t.Errorf("list with a signature that allows it: %v", err)
	}
	if _, err := may.NewBlockBlobClient("x").Upload(t.Context(), nil, nil); err == nil {
		t.Error("put with a signature that does not allow it")
	}
	if again := testenv.Azurite(t); again != s {
		t.Error("the second test gets another server")
	}
}
