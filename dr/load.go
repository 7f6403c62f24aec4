package dr

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/goccy/go-yaml"
)

// maxConfig bounds the text of a configuration.
const maxConfig = 1 << 20

// Load reads a configuration in YAML. It is strict: a field it does not know,
// a key written twice, a second document and a number without a unit are
// errors with line and column. It does not judge what it read; see
// [Config.Validate].
func Load(r io.Reader) (Config, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxConfig+1))
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	return ParseConfig(b)
}

// ParseConfig is [Load] for text already in memory.
func ParseConfig(text []byte) (Config, error) {
	if len(text) > maxConfig {
		return Config{}, fmt.Errorf("read configuration: longer than %d bytes", maxConfig)
	}
	var c Config
	dec := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict())
	if err := dec.Decode(&c); err != nil {
		if errors.Is(err, io.EOF) {
			return Config{}, errors.New("read configuration: the text is empty")
		}
		return Config{}, fmt.Errorf("read configuration: %w", place(err))
	}
	var more any
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return Config{}, errors.New("read configuration: there is a second document; write one")
	}
	return c, nil
}

// place reduces an error of the YAML library to where and what. Its own text
// quotes the lines around, and those may hold what was meant to be a secret.
func place(err error) error {
	var y yaml.Error
	if !errors.As(err, &y) || y.GetToken() == nil || y.GetToken().Position == nil {
		return err
	}
	p := y.GetToken().Position
	return fmt.Errorf("line %d, column %d: %s", p.Line, p.Column, y.GetMessage())
}
