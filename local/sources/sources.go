// Package sources runs the event sources of the Knative manifests: KafkaSources, PingSources and KafkaSinks. A local stack runs the
// same manifests as a cluster.
package sources

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"marketdata/local/kafkasink"
	"marketdata/local/kafkasource"
	"marketdata/local/pingsource"
	"marketdata/shared/ingress"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/metric"
	"marketdata/shared/priceevent"
	"marketdata/shared/trace"
)

// Options says where the manifests are and how to resolve their references.
type Options struct {
	ManifestDir string             // contains a folder base/
	Kafka       kafkaclient.Config // replaces the manifests' bootstrapServers and net
	Topics      priceevent.Topics  // replaces the manifests' names
	GroupPrefix string             // goes before the manifests' consumer groups
	ClientID    string             // begins those of the consumers, and is of these sources alone, for good; empty: they have none
	Services    map[string]string  // URLs of Knative Services by name; sources of others are skipped
	JitterSeed  uint64             // of the delays of the PingSources' ticks; 0: no delays
	Log         *slog.Logger
	Tracing     *trace.Tracing
	Metrics     *metrics.Set // nil: nobody reads them
}

// Sources are the running event sources.
type Sources struct {
	kafka    []consumer
	pings    []*pingsource.Source
	sinks    []*http.Server
	producer *kafkaclient.Producer
	sinkURLs map[string]string
}

// consumer is a KafkaSource, or one of its replicas.
type consumer struct {
	*kafkasource.Source
	name  string // of the KafkaSource
	group string
	sink  string // name of the Service; empty if the sink is a URI
}

// Status says how far the KafkaSources are behind, by the names of their sinks.
func (s *Sources) Status() map[string]kafkasource.Status {
	all := map[string]kafkasource.Status{}
	for _, k := range s.kafka {
		one, sum := k.Status(), all[k.sink]
		all[k.sink] = kafkasource.Status{Waiting: sum.Waiting + one.Waiting, Delay: max(sum.Delay, one.Delay)}
	}
	return all
}

// Start starts the sources and sinks of all manifests. After an error nothing is left running.
func Start(ctx context.Context, o Options) (*Sources, error) {
	all, err := load(o.ManifestDir)
	if err != nil {
		return nil, err
	}
	all.rename(o.Topics, o.GroupPrefix)
	s := &Sources{producer: kafkaclient.NewProducer(o.Kafka, o.Log), sinkURLs: map[string]string{}}
	if err := s.start(ctx, all, o); err != nil {
		return nil, errors.Join(err, s.Close(ctx))
	}
	if o.Metrics != nil {
		metric.Describe(help)
		o.Metrics.RegisterMetricsWriter(s.writeMetrics)
	}
	return s, nil
}

func (s *Sources) start(ctx context.Context, all manifests, o Options) error {
	for _, m := range all.kafkaSinks {
		if err := s.startSink(ctx, m, o.Log); err != nil {
			return err
		}
	}
	for _, m := range all.kafkaSources {
		spec, skip, err := s.kafkaSpec(m, o)
		if err != nil {
			return fmt.Errorf("KafkaSource %s: %w", m.Metadata.Name, err)
		}
		if skip {
			o.Log.Info("source skipped: its sink is not running here", "source", m.Metadata.Name)
			continue
		}
		name := ""
		if m.Spec.Sink.Ref != nil {
			name = m.Spec.Sink.Ref.Name
		}
		consumers := 1
		if m.Spec.Consumers != nil {
			consumers = *m.Spec.Consumers
		}
		for i := range consumers {
			if o.ClientID != "" {
				spec.ClientID = fmt.Sprintf("%s-%s-%d", o.ClientID, spec.Name, i)
			}
			source, err := kafkasource.Start(spec, o.Log)
			if err != nil {
				return fmt.Errorf("KafkaSource %s: %w", m.Metadata.Name, err)
			}
			s.kafka = append(s.kafka, consumer{source, m.Metadata.Name, spec.ConsumerGroup, name})
		}
	}
	for _, m := range all.pingSources {
		if err := s.startPing(m, o); err != nil {
			return fmt.Errorf("PingSource %s: %w", m.Metadata.Name, err)
		}
	}
	return nil
}

func (s *Sources) startSink(ctx context.Context, m kafkaSink, log *slog.Logger) error {
	if m.Spec.ContentMode != "binary" {
		return fmt.Errorf("KafkaSink %s: contentMode must be binary, the only mode that keeps the bytes unchanged", m.Metadata.Name)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("KafkaSink %s: %w", m.Metadata.Name, err)
	}
	server := &http.Server{
		Handler:           kafkasink.Sink{Producer: s.producer, Topic: m.Spec.Topic, Log: log.With("sink", m.Metadata.Name)},
		ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: ingress.MaxHeaderBytes,
	}
	go func() { _ = server.Serve(listener) }() // ends with Shutdown
	s.sinks = append(s.sinks, server)
	s.sinkURLs[m.Metadata.Name] = "http://" + listener.Addr().String()
	return nil
}

func (s *Sources) kafkaSpec(m kafkaSource, o Options) (spec kafkasource.Spec, skip bool, err error) {
	sink, found, err := s.url(m.Spec.Sink, o)
	if err != nil || !found {
		return spec, !found, err
	}
	d, err := m.Spec.Delivery.resolve()
	if err != nil {
		return spec, false, err
	}
	if m.Spec.Delivery != nil && m.Spec.Delivery.DeadLetterSink != nil {
		if d.DeadLetterSink, found, err = s.url(*m.Spec.Delivery.DeadLetterSink, o); err != nil {
			return spec, false, err
		} else if !found {
			return spec, false, errors.New("its dead letter sink does not exist")
		}
	}
	switch m.Spec.Ordering {
	case "", "ordered", "unordered":
	default:
		return spec, false, fmt.Errorf("unknown ordering %q (ordered or unordered)", m.Spec.Ordering)
	}
	offset := m.Spec.InitialOffset
	switch offset {
	case "":
		offset = "latest"
	case "earliest", "latest":
	default:
		return spec, false, fmt.Errorf("unknown initialOffset %q (earliest or latest)", offset)
	}
	spec = kafkasource.Spec{
		Name: m.Metadata.Name, Namespace: namespace(m.Metadata), Kafka: o.Kafka, Topics: m.Spec.Topics,
		ConsumerGroup: m.Spec.ConsumerGroup, InitialOffset: offset, Ordered: m.Spec.Ordering != "unordered",
		KeyType: m.Metadata.Labels["kafkasources.sources.knative.dev/key-type"], Sink: sink, Delivery: d,
		Tracing: o.Tracing, Metrics: o.Metrics,
	}
	if m.Spec.CEOverrides != nil {
		spec.Extensions = m.Spec.CEOverrides.Extensions
	}
	return spec, false, nil
}

func (s *Sources) startPing(m pingSource, o Options) error {
	sink, found, err := s.url(m.Spec.Sink, o)
	if err != nil {
		return err
	}
	if !found {
		o.Log.Info("source skipped: its sink is not running here", "source", m.Metadata.Name)
		return nil
	}
	data, err := m.data()
	if err != nil {
		return err
	}
	spec := pingsource.Spec{
		Name: m.Metadata.Name, Namespace: namespace(m.Metadata), Schedule: m.Spec.Schedule, Timezone: m.Spec.Timezone,
		ContentType: m.Spec.ContentType, Data: data, Sink: sink, JitterSeed: o.JitterSeed,
		Tracing: o.Tracing,
	}
	if spec.Schedule == "" {
		spec.Schedule = "* * * * *" // ping_defaults.go
	}
	if m.Spec.CEOverrides != nil {
		spec.Extensions = m.Spec.CEOverrides.Extensions
	}
	ping, err := pingsource.Start(spec, o.Log)
	if err == nil {
		s.pings = append(s.pings, ping)
	}
	return err
}

// url resolves a destination: a Service by the options, a KafkaSink to its local receiver.
func (s *Sources) url(d destination, o Options) (target string, found bool, err error) {
	if d.Ref == nil {
		return d.URI, d.URI != "", nil
	}
	switch d.Ref.Kind {
	case "Service":
		target, found = o.Services[d.Ref.Name]
	case "KafkaSink":
		target, found = s.sinkURLs[d.Ref.Name]
	default:
		return "", false, fmt.Errorf("unknown kind of sink %s (Service or KafkaSink)", d.Ref.Kind)
	}
	return target + d.URI, found, nil
}

func namespace(m objectMeta) string {
	if m.Namespace == "" {
		return "default"
	}
	return m.Namespace
}

// Ready returns once partitions are assigned to every KafkaSource.
func (s *Sources) Ready(ctx context.Context) error {
	for _, k := range s.kafka {
		if err := k.Ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Close stops ticks and sources, then sinks. Requests in flight get a short time to finish; what does not finish is redelivered.
func (s *Sources) Close(ctx context.Context) error {
	var ticks sync.WaitGroup
	for _, p := range s.pings {
		ticks.Go(p.Close)
	}
	closed := make(chan error, len(s.kafka))
	for _, k := range s.kafka {
		go func() { closed <- k.Close() }()
	}
	ticks.Wait()
	var errs []error
	for range s.kafka {
		select {
		case err := <-closed:
			errs = append(errs, err)
		case <-ctx.Done(): // the broker hangs; records that are not committed are redelivered
			errs = append(errs, ctx.Err())
		}
	}
	for _, server := range s.sinks {
		errs = append(errs, server.Shutdown(ctx))
	}
	s.producer.Close(time.Second) // no request waits for an acknowledgement any more
	return errors.Join(errs...)
}
