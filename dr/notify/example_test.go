package notify_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/holdfast-go/holdfast/dr/notify"
)

func Example() {
	key := func(context.Context) (string, error) { return "shared with the receiver", nil }
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		signature := r.Header.Get(notify.SignatureHeader)
		fmt.Println("signature:", notify.CheckSignature("shared with the receiver", signature, body, time.Now()))
		fmt.Println(string(body))
	}))
	defer receiver.Close()

	channel, err := notify.Parse("webhook:" + receiver.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	notifier, err := notify.Open(notify.Config{Key: key}, channel)
	if err != nil {
		fmt.Println(err)
		return
	}
	err = notifier.Notify(context.Background(), notify.Message{
		Title:    "erp: newest restorable point is 7 h old",
		Severity: notify.Critical,
		Key:      "erp/rpo",
	})
	fmt.Println(err)
	// Output:
	// signature: <nil>
	// {"title":"erp: newest restorable point is 7 h old","severity":"critical","key":"erp/rpo"}
	// <nil>
}
