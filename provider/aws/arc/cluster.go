package arc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/holdfast-go/holdfast/provider/aws/internal/conn"
)

// The messages of the cluster's protocol (AWS JSON 1.0) that are used here.
type (
	listRequest struct {
		ControlPanelArn string
		NextToken       string `json:",omitempty"`
	}
	listResponse struct {
		RoutingControls []struct {
			RoutingControlArn   string
			RoutingControlState string
		}
		NextToken string
	}
	updateRequest struct {
		Entries []entry `json:"UpdateRoutingControlStateEntries"`
	}
	entry struct {
		RoutingControlArn   string
		RoutingControlState string
	}
)

const (
	on  = "On"
	off = "Off"

	signingName = "route53-recovery-cluster"
	target      = "ToggleCustomerAPI."
	maxAnswer   = 8 << 20
)

// A cluster is how the endpoints are asked: one request, one answer. The core
// of the SDK signs, and says which errors pass; turns are taken by who asks.
type cluster struct {
	endpoints []Endpoint
	client    aws.HTTPClient
	creds     aws.CredentialsProvider
	signer    *v4.Signer
	timeout   time.Duration
}

func newCluster(endpoints []Endpoint, loaded aws.Config, timeout time.Duration) cluster {
	return cluster{endpoints, loaded.HTTPClient, loaded.Credentials, v4.NewSigner(), timeout}
}

// ask makes one request to one endpoint. out may be nil.
func (c cluster) ask(ctx context.Context, e Endpoint, operation string, in, out any) error {
	err := c.try(ctx, e, operation, in, out)
	if err != nil {
		return fmt.Errorf("%s at %s: %w", operation, e.Region, err)
	}
	return nil
}

func (c cluster) try(ctx context.Context, e Endpoint, operation string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(e.URL, "/")+"/", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.0")
	req.Header.Set("X-Amz-Target", target+operation)
	req.Header.Set("User-Agent", "holdfast")
	creds, err := c.creds.Retrieve(ctx)
	if err != nil {
		return &conn.UnsentError{Err: fmt.Errorf("credentials: %w", err)}
	}
	sum := sha256.Sum256(body)
	if err := c.signer.SignHTTP(ctx, creds, req, hex.EncodeToString(sum[:]), signingName, e.Region, time.Now()); err != nil {
		return &conn.UnsentError{Err: fmt.Errorf("sign: %w", err)}
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return failure(resp, answer)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("the answer is not understood: %w", err)
	}
	return nil
}

// failure is an answer that is an error, in the types of the SDK.
func failure(resp *http.Response, answer []byte) error {
	var doc struct {
		Type         string `json:"__type"`
		Message      string `json:"message"`
		ResourceID   string `json:"resourceId"`
		ResourceType string `json:"resourceType"`
		LimitCode    string `json:"limitCode"`
	}
	api := &smithy.GenericAPIError{Code: "UnknownError", Message: resp.Status}
	if json.Unmarshal(answer, &doc) == nil { // also of the "Message" that some front ends write
		api.Message = doc.Message
		for name, v := range map[string]string{"resource": strings.TrimSpace(doc.ResourceType + " " + doc.ResourceID), "limit": doc.LimitCode} {
			if v != "" {
				api.Message += fmt.Sprintf(" (%s %s)", name, v)
			}
		}
	}
	code := doc.Type
	if h := resp.Header.Get("X-Amzn-Errortype"); h != "" {
		code = h
	}
	code, _, _ = strings.Cut(code, ":")
	if code = code[strings.LastIndexByte(code, '#')+1:]; code != "" {
		api.Code = code
	}
	if resp.StatusCode >= 500 {
		api.Fault = smithy.FaultServer
	}
	return &awshttp.ResponseError{
		ResponseError: &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: resp}, Err: api},
		RequestID:     resp.Header.Get("X-Amzn-Requestid"),
	}
}
