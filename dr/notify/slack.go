package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// slack posts to an incoming webhook, whose address is the permission to post.
type slack struct {
	poster
	channel Channel
	address Secret
}

type slackMessage struct {
	Text        string            `json:"text"`
	Attachments []slackAttachment `json:"attachments,omitempty"`
}

type slackAttachment struct {
	Color  string       `json:"color"`
	Text   string       `json:"text"`
	Fields []slackField `json:"fields,omitempty"`
}

type slackField struct {
	Title string `json:"title"`
	Value string `json:"value"`
	Short bool   `json:"short"`
}

var slackColor = map[Severity]string{Info: "good", Warning: "warning", Critical: "danger"}

// slackEscape keeps text from being read as a mention of everybody or a link.
var slackEscape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func (s slack) Notify(ctx context.Context, m Message) error {
	if err := s.send(ctx, m); err != nil {
		return fmt.Errorf("notify %s: %w", s.channel, err)
	}
	return nil
}

func (s slack) send(ctx context.Context, m Message) error {
	if err := m.Validate(); err != nil {
		return err
	}
	address, err := s.address(ctx)
	if err != nil {
		return fmt.Errorf("address of the webhook: %w", err)
	}
	if err := checkURL(address); err != nil {
		return fmt.Errorf("address of the webhook: %w", err)
	}
	body, err := json.Marshal(slackText(m))
	if err != nil {
		return err
	}
	return s.post(ctx, address, body, http.Header{})
}

func slackText(m Message) slackMessage {
	out := slackMessage{Text: slackEscape.Replace("[" + string(m.Severity) + "] " + oneLine(m.Title))}
	a := slackAttachment{Color: slackColor[m.Severity], Text: slackEscape.Replace(short(m.Text, 3000))}
	for _, f := range m.Fields {
		a.Fields = append(a.Fields, slackField{slackEscape.Replace(f.Name), slackEscape.Replace(short(f.Value, 1000)), len(f.Value) < 40})
	}
	if a.Text != "" || len(a.Fields) > 0 {
		out.Attachments = []slackAttachment{a}
	}
	return out
}

// short cuts what Slack would refuse as too long.
func short(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-4]) + " ..."
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func openSlack(c Config, ch Channel) (Notifier, error) {
	address := c.Slack[ch.Target]
	if address == nil {
		return nil, errors.New("Config.Slack holds no webhook for it")
	}
	return slack{newPoster(c.Client), ch, address}, nil
}
