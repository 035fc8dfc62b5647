package validate

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	eventingduck "knative.dev/eventing/pkg/apis/duck/v1"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
)

// The types of Knative's Kafka extensions are in no module that can be required. These have the members of eventing-kafka-broker's
// control-plane/pkg/apis, and the checks of its webhooks.

// kafkaSource is sources.knative.dev/v1 KafkaSource.
type kafkaSource struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Consumers         *int32                     `json:"consumers"`
		BootstrapServers  []string                   `json:"bootstrapServers"`
		Net               kafkaNet                   `json:"net"`
		Topics            []string                   `json:"topics"`
		ConsumerGroup     string                     `json:"consumerGroup"`
		InitialOffset     string                     `json:"initialOffset"`
		Ordering          *string                    `json:"ordering"`
		Delivery          *eventingduck.DeliverySpec `json:"delivery"`
		duckv1.SourceSpec `json:",inline"`
	} `json:"spec"`
}

type kafkaNet struct {
	SASL struct {
		Enable        bool        `json:"enable"`
		User          secretValue `json:"user"`
		Password      secretValue `json:"password"`
		Type          secretValue `json:"type"`
		RoleARN       secretValue `json:"roleARN"`
		TokenProvider secretValue `json:"tokenProvider"`
	} `json:"sasl"`
	TLS struct {
		Enable bool        `json:"enable"`
		Cert   secretValue `json:"cert"`
		Key    secretValue `json:"key"`
		CACert secretValue `json:"caCert"`
	} `json:"tls"`
}

type secretValue struct {
	SecretKeyRef *corev1.SecretKeySelector `json:"secretKeyRef"`
}

func (s *kafkaSource) SetDefaults(context.Context) {
	if s.Spec.InitialOffset == "" {
		s.Spec.InitialOffset = "latest"
	}
}

// Validate has the rules of the webhook, and those that nobody checks: the label of keys, the delivery, and the references of net, which
// fail only once the source runs.
func (s *kafkaSource) Validate(ctx context.Context) *apis.FieldError {
	errs := []error{
		missing("topics", len(s.Spec.Topics) == 0), missing("bootstrapServers", len(s.Spec.BootstrapServers) == 0),
		oneOf(s.Spec.InitialOffset, "initialOffset", "earliest", "latest"),
	}
	if s.Spec.Ordering != nil {
		errs = append(errs, oneOf(*s.Spec.Ordering, "ordering", "ordered", "unordered"))
	}
	if keys, ok := s.Labels["kafkasources.sources.knative.dev/key-type"]; ok {
		errs = append(errs, oneOf(keys, "key-type", "string", "int", "float", "byte-array"))
	}
	if d := s.Spec.Delivery; d != nil { // present, so the control plane merges no defaults: an unset retry means none
		errs = append(errs, missing("delivery.retry", d.Retry == nil), missing("delivery.backoffPolicy", d.BackoffPolicy == nil),
			missing("delivery.backoffDelay", d.BackoffDelay == nil), missing("delivery.timeout", d.Timeout == nil),
			missing("delivery.deadLetterSink: a record that fails is lost", d.DeadLetterSink == nil))
	}
	errs = append(errs, s.Spec.Net.validate()...)
	return asField(errs).Also(s.Spec.SourceSpec.Validate(ctx)).Also(s.Spec.Delivery.Validate(ctx).ViaField("delivery")).ViaField("spec")
}

func (n *kafkaNet) validate() (errs []error) {
	refs := map[string]secretValue{
		"sasl.user": n.SASL.User, "sasl.password": n.SASL.Password, "sasl.type": n.SASL.Type, "tls.cert": n.TLS.Cert, "tls.key": n.TLS.Key,
		"tls.caCert": n.TLS.CACert,
	}
	for name, value := range refs {
		errs = append(errs, missing("net."+name+": name or key", value.SecretKeyRef != nil && (value.SecretKeyRef.Name == "" || value.SecretKeyRef.Key == "")))
	}
	if n.SASL.Enable {
		errs = append(errs, missing("net.sasl.user", n.SASL.User.SecretKeyRef == nil), missing("net.sasl.password", n.SASL.Password.SecretKeyRef == nil))
	} else if n.SASL.User.SecretKeyRef != nil {
		errs = append(errs, errors.New("net.sasl.enable: false, so its references are ignored"))
	}
	if !n.TLS.Enable && (n.TLS.CACert.SecretKeyRef != nil || n.TLS.Cert.SecretKeyRef != nil) {
		errs = append(errs, errors.New("net.tls.enable: false, so its references are ignored"))
	}
	return append(errs, missing("net.tls.cert or net.tls.key", (n.TLS.Cert.SecretKeyRef == nil) != (n.TLS.Key.SecretKeyRef == nil)))
}

// kafkaSink is eventing.knative.dev/v1alpha1 KafkaSink.
type kafkaSink struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Topic             string   `json:"topic"`
		NumPartitions     *int32   `json:"numPartitions"`
		ReplicationFactor *int16   `json:"replicationFactor"`
		BootstrapServers  []string `json:"bootstrapServers"`
		ContentMode       string   `json:"contentMode"`
		Auth              *struct {
			Secret struct {
				Ref struct {
					Name string `json:"name"`
				} `json:"ref"`
			} `json:"secret"`
		} `json:"auth"`
	} `json:"spec"`
}

func (s *kafkaSink) SetDefaults(context.Context) {
	if s.Spec.ContentMode == "" {
		s.Spec.ContentMode = "binary"
	}
}

// Validate has the rules of the webhook.
func (s *kafkaSink) Validate(context.Context) *apis.FieldError {
	return asField([]error{
		missing("topic", s.Spec.Topic == ""), missing("bootstrapServers", len(s.Spec.BootstrapServers) == 0),
		oneOf(s.Spec.ContentMode, "contentMode", "binary", "structured"),
		missing("numPartitions", s.Spec.NumPartitions != nil && *s.Spec.NumPartitions <= 0),
		missing("replicationFactor", s.Spec.ReplicationFactor != nil && *s.Spec.ReplicationFactor <= 0),
		missing("auth.secret.ref.name", s.Spec.Auth != nil && s.Spec.Auth.Secret.Ref.Name == ""),
	}).ViaField("spec")
}

func asField(errs []error) *apis.FieldError {
	if err := errors.Join(errs...); err != nil {
		return &apis.FieldError{Message: err.Error()}
	}
	return nil
}
