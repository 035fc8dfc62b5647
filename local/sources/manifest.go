package sources

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"sigs.k8s.io/yaml"

	"marketdata/local/kafkasource"
	"marketdata/shared/priceevent"
)

// meta holds the members that all manifests share.
type meta struct {
	APIVersion string     `json:"apiVersion"`
	Kind       string     `json:"kind"`
	Metadata   objectMeta `json:"metadata"`
}

type objectMeta struct {
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type destination struct {
	Ref *struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Name       string `json:"name"`
		Namespace  string `json:"namespace,omitempty"`
	} `json:"ref,omitempty"`
	URI string `json:"uri,omitempty"`
}

type ceOverrides struct {
	Extensions map[string]string `json:"extensions,omitempty"`
}

// kafkaSource is sources.knative.dev/v1 KafkaSource, limited to the members that we use.
type kafkaSource struct {
	meta
	Spec struct {
		Consumers        *int         `json:"consumers,omitempty"`
		BootstrapServers []string     `json:"bootstrapServers"`
		Topics           []string     `json:"topics"`
		ConsumerGroup    string       `json:"consumerGroup"`
		InitialOffset    string       `json:"initialOffset"`
		Ordering         string       `json:"ordering"`
		Delivery         *delivery    `json:"delivery,omitempty"`
		Sink             destination  `json:"sink"`
		CEOverrides      *ceOverrides `json:"ceOverrides,omitempty"`
	} `json:"spec"`
}

type delivery struct {
	Retry          *int         `json:"retry,omitempty"`
	BackoffPolicy  string       `json:"backoffPolicy,omitempty"`
	BackoffDelay   string       `json:"backoffDelay,omitempty"`
	Timeout        string       `json:"timeout,omitempty"`
	DeadLetterSink *destination `json:"deadLetterSink,omitempty"`
}

// pingSource is sources.knative.dev/v1 PingSource.
type pingSource struct {
	meta
	Spec struct {
		Schedule    string       `json:"schedule"`
		Timezone    string       `json:"timezone,omitempty"`
		ContentType string       `json:"contentType,omitempty"`
		Data        string       `json:"data,omitempty"`
		DataBase64  string       `json:"dataBase64,omitempty"`
		Sink        destination  `json:"sink"`
		CEOverrides *ceOverrides `json:"ceOverrides,omitempty"`
	} `json:"spec"`
}

// kafkaSink is eventing.knative.dev/v1alpha1 KafkaSink.
type kafkaSink struct {
	meta
	Spec struct {
		Topic             string   `json:"topic"`
		NumPartitions     *int     `json:"numPartitions,omitempty"`
		ReplicationFactor *int     `json:"replicationFactor,omitempty"`
		BootstrapServers  []string `json:"bootstrapServers"`
		ContentMode       string   `json:"contentMode"`
	} `json:"spec"`
}

// manifests are the event sources of a folder.
type manifests struct {
	kafkaSources []kafkaSource
	pingSources  []pingSource
	kafkaSinks   []kafkaSink
}

// load reads the YAML files of the base folder and ignores other kinds. An unknown member in one of the event sources is an error,
// because a cluster would silently drop it.
func load(dir string) (manifests, error) {
	files, err := filepath.Glob(filepath.Join(dir, "base", "*.yaml"))
	if err != nil || len(files) == 0 {
		return manifests{}, fmt.Errorf("no manifests in %s", filepath.Join(dir, "base"))
	}
	sort.Strings(files)
	var all manifests
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // the folder is the operator's choice
		if err != nil {
			return manifests{}, fmt.Errorf("read manifest: %w", err)
		}
		for _, doc := range bytes.Split(text, []byte("\n---")) {
			if err := all.add(doc); err != nil {
				return manifests{}, fmt.Errorf("%s: %w", file, err)
			}
		}
	}
	return all, nil
}

// rename gives topics and consumer groups the names of this system.
func (m *manifests) rename(topics priceevent.Topics, groupPrefix string) {
	names := map[string]string{priceevent.DefaultTopics.Events: topics.Events, priceevent.DefaultTopics.DeadLetters: topics.DeadLetters}
	name := func(topic string) string { return cmp.Or(names[topic], topic) }
	for i := range m.kafkaSources {
		spec := &m.kafkaSources[i].Spec
		spec.ConsumerGroup = groupPrefix + spec.ConsumerGroup
		for i, topic := range spec.Topics {
			spec.Topics[i] = name(topic)
		}
		if o := spec.CEOverrides; o != nil && o.Extensions["kafkatopic"] != "" {
			o.Extensions["kafkatopic"] = name(o.Extensions["kafkatopic"])
		}
	}
	for i := range m.kafkaSinks {
		m.kafkaSinks[i].Spec.Topic = name(m.kafkaSinks[i].Spec.Topic)
	}
}

func (m *manifests) add(doc []byte) error {
	var head meta
	if err := yaml.Unmarshal(doc, &head); err != nil {
		return err
	}
	switch head.APIVersion + " " + head.Kind {
	case "sources.knative.dev/v1 KafkaSource":
		return appendStrict(doc, &m.kafkaSources)
	case "sources.knative.dev/v1 PingSource":
		return appendStrict(doc, &m.pingSources)
	case "eventing.knative.dev/v1alpha1 KafkaSink":
		return appendStrict(doc, &m.kafkaSinks)
	}
	return nil
}

// appendStrict decodes as the API server does: names of members in exactly their case, and a text is never a number.
func appendStrict[T any](doc []byte, list *[]T) error {
	text, err := yaml.YAMLToJSONStrict(doc)
	if err != nil {
		return err
	}
	var v T
	if err := jsonv2.Unmarshal(text, &v, jsonv2.RejectUnknownMembers(true)); err != nil {
		return err
	}
	*list = append(*list, v)
	return nil
}

// data returns the bytes of a PingSource's event, with the checks of its webhook (knative/eventing ping_validation.go).
func (m pingSource) data() ([]byte, error) {
	data := []byte(m.Spec.Data)
	if m.Spec.DataBase64 != "" {
		if m.Spec.Data != "" {
			return nil, errors.New("data and dataBase64 exclude each other")
		}
		var err error
		if data, err = base64.StdEncoding.DecodeString(m.Spec.DataBase64); err != nil {
			return nil, fmt.Errorf("dataBase64: %w", err)
		}
	}
	if m.Spec.ContentType == "application/json" && len(data) > 0 {
		var object map[string]any
		if err := json.Unmarshal(data, &object); err != nil {
			return nil, fmt.Errorf("data must be a JSON object: %w", err)
		}
	}
	return data, nil
}

// resolve applies the control plane's defaults (source.go, utils.go). An absent delivery means 10 exponential retries from 0.3 s. In
// a delivery that is present, unset members mean zero retries, 200 ms, exponential, 600 s.
func (d *delivery) resolve() (kafkasource.Delivery, error) {
	if d == nil {
		return kafkasource.Delivery{Retry: 10, Exponential: true, BackoffDelay: 300 * time.Millisecond, Timeout: 10 * time.Minute}, nil
	}
	out := kafkasource.Delivery{Exponential: true, BackoffDelay: 200 * time.Millisecond, Timeout: 10 * time.Minute}
	if d.Retry != nil {
		out.Retry = *d.Retry
	}
	switch d.BackoffPolicy {
	case "", "exponential":
	case "linear":
		out.Exponential = false
	default:
		return out, fmt.Errorf("unknown backoffPolicy %q (linear or exponential)", d.BackoffPolicy)
	}
	var err error
	if d.BackoffDelay != "" {
		if out.BackoffDelay, err = isoDuration(d.BackoffDelay); err != nil {
			return out, err
		}
	}
	if d.Timeout != "" {
		if out.Timeout, err = isoDuration(d.Timeout); err != nil {
			return out, err
		}
	}
	return out, nil
}

var isoPattern = regexp.MustCompile(`^PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?$`)

// isoDuration parses an ISO 8601 duration of hours, minutes and seconds, such as PT1M30S.
func isoDuration(s string) (time.Duration, error) {
	m := isoPattern.FindStringSubmatch(s)
	if m == nil || strings.Join(m[1:], "") == "" {
		return 0, fmt.Errorf("duration %q is not an ISO 8601 duration such as PT1H2M3S", s)
	}
	total := time.Duration(0)
	for i, unit := range []time.Duration{time.Hour, time.Minute, time.Second} {
		if m[i+1] != "" {
			f, err := strconv.ParseFloat(m[i+1], 64)
			if err != nil {
				return 0, fmt.Errorf("duration %q: %w", s, err)
			}
			if f *= float64(unit); f >= float64(math.MaxInt64-total) {
				return 0, fmt.Errorf("duration %q is longer than %s", s, time.Duration(math.MaxInt64))
			}
			total += time.Duration(f)
		}
	}
	return total, nil
}
