package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v4"

	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/workflows"
)

// Forms of output.
const (
	outputText = "text"
	outputJSON = "json"
)

// config is what the command line can be told. A flag wins over its environment
// variable, that over the configuration file, that over the default. Temporal's
// own settings come from where the temporal CLI takes them (TEMPORAL_ADDRESS,
// TEMPORAL_NAMESPACE, TEMPORAL_PROFILE, its configuration file, …).
type config struct {
	Store     string
	StoreKey  string
	TaskQueue string
	CodecKeys string
	Output    string
	Address   string
	Namespace string
	Profile   string
}

// setting ties a value to its flag, its variable and its key in the file.
type setting struct {
	name, short, usage string
	value              *string
	// envless settings have no variable of Ichor's: Temporal has one.
	envless bool
}

func (c *config) settings() []setting {
	return []setting{
		{name: "store", value: &c.Store, usage: "URL of the encrypted store (default: in the user's data folder)"},
		{name: "store-key", value: &c.StoreKey, usage: "URL of the store's key (default: a key file beside a file store)"},
		{name: "task-queue", value: &c.TaskQueue, usage: "task queue of the workers"},
		{name: "codec-keys", value: &c.CodecKeys, usage: "references of payload encryption keys, comma-separated, the first encrypts"},
		{name: "output", short: "o", value: &c.Output, usage: "text or json"},
		{name: "address", value: &c.Address, usage: "host:port of Temporal [TEMPORAL_ADDRESS]", envless: true},
		{name: "namespace", value: &c.Namespace, usage: "namespace of Temporal [TEMPORAL_NAMESPACE]", envless: true},
		{name: "profile", value: &c.Profile, usage: "profile of Temporal's configuration file [TEMPORAL_PROFILE]", envless: true},
	}
}

func (s setting) variable() string {
	return "ICHOR_" + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
}

// addFlags offers the settings as flags and returns a function that resolves
// them after parsing. It reports every problem at once.
func (c *config) addFlags(flags *pflag.FlagSet) func(getenv func(string) string) error {
	*c = config{TaskQueue: workflows.TaskQueue, Output: outputText}
	given := map[string]*string{}
	for _, s := range c.settings() {
		usage := s.usage
		if !s.envless {
			usage += " [" + s.variable() + "]"
		}
		given[s.name] = flags.StringP(s.name, s.short, *s.value, usage)
	}
	file := flags.String("config", "", "configuration file (default: ichor/config.yaml in the user's configuration folder) [ICHOR_CONFIG]")
	return func(getenv func(string) string) error {
		explicit := flags.Changed("config")
		if !explicit {
			*file = getenv("ICHOR_CONFIG")
			explicit = *file != ""
		}
		fromFile, problems := readConfigFile(*file, explicit, c.settings())
		for _, s := range c.settings() {
			if v, ok := fromFile[s.name]; ok {
				*s.value = v
			}
			if v := getenv(s.variable()); v != "" && !s.envless {
				*s.value = v
			}
			if flags.Changed(s.name) {
				*s.value = *given[s.name]
			}
		}
		if err := errors.Join(append(problems, c.validate()...)...); err != nil {
			return usageError{fmt.Errorf("configuration: %s", strings.ReplaceAll(err.Error(), "\n", "; "))}
		}
		return nil
	}
}

func (c *config) validate() []error {
	var problems []error
	if c.Output != outputText && c.Output != outputJSON {
		problems = append(problems, fmt.Errorf("output: %q is neither text nor json", c.Output))
	}
	if c.TaskQueue == "" {
		problems = append(problems, errors.New("task-queue: is empty"))
	}
	for i, ref := range c.codecKeys() {
		if err := ref.Validate(); err != nil {
			problems = append(problems, fmt.Errorf("codec-keys: number %d %w", i+1, err))
		}
	}
	return problems
}

func (c *config) codecKeys() []secrets.Ref {
	var out []secrets.Ref
	for ref := range strings.SplitSeq(c.CodecKeys, ",") {
		if ref = strings.TrimSpace(ref); ref != "" {
			out = append(out, secrets.Ref(ref))
		}
	}
	return out
}

// readConfigFile reads a flat mapping of setting names to text. The default file
// may be absent; one that was named may not.
func readConfigFile(name string, explicit bool, settings []setting) (map[string]string, []error) {
	if name == "" {
		dir, err := os.UserConfigDir()
		if err != nil {
			return nil, nil // no home folder, no file
		}
		name = filepath.Join(dir, "ichor", "config.yaml")
	}
	data, err := os.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !explicit:
		return nil, nil
	case err != nil:
		return nil, []error{err}
	}
	var tree map[string]any
	if err := yaml.Unmarshal(data, &tree); err != nil {
		return nil, []error{fmt.Errorf("%s: is not a YAML mapping of settings", name)}
	}
	var problems []error
	out := map[string]string{}
	for key, v := range tree {
		text, isText := v.(string)
		switch {
		case !slices.ContainsFunc(settings, func(s setting) bool { return s.name == key }):
			problems = append(problems, fmt.Errorf("%s: %s: unknown setting", name, key))
		case !isText:
			problems = append(problems, fmt.Errorf("%s: %s: must be text", name, key))
		default:
			out[key] = text
		}
	}
	slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return out, problems
}
