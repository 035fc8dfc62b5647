// Package validate contains only tests: it renders the manifests as kubectl does, and checks them with the Go types of Kubernetes and
// Knative, as the API server and Knative's webhooks would. It is a module of its own, so that their dependencies stay out of the
// programs.
package validate

import (
	"context"
	"errors"
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/eventing/pkg/apis/feature"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
	"knative.dev/pkg/apis"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// knativeType is a type with the checks of Knative's webhooks.
type knativeType interface {
	SetDefaults(ctx context.Context)
	Validate(ctx context.Context) *apis.FieldError
}

// validate decodes one document and returns what a cluster would refuse, or silently ignore: unknown members, kinds and versions.
func validate(document []byte) (any, error) {
	var head metav1.TypeMeta
	if err := yaml.Unmarshal(document, &head); err != nil {
		return nil, err
	}
	types := map[string]any{
		"v1 ConfigMap": &corev1.ConfigMap{}, "v1 Namespace": &corev1.Namespace{}, "v1 Secret": &corev1.Secret{}, "batch/v1 Job": &batchv1.Job{},
		"networking.k8s.io/v1 NetworkPolicy":      &networkingv1.NetworkPolicy{},
		"monitoring.coreos.com/v1 PodMonitor":     &podMonitor{},
		"monitoring.coreos.com/v1 PrometheusRule": &prometheusRule{},
		"serving.knative.dev/v1 Service":          &servingv1.Service{},
		"sources.knative.dev/v1 PingSource":       &sourcesv1.PingSource{},
		"sources.knative.dev/v1 KafkaSource":      &kafkaSource{},
		"eventing.knative.dev/v1alpha1 KafkaSink": &kafkaSink{},
	}
	object, known := types[head.APIVersion+" "+head.Kind]
	if !known {
		return nil, fmt.Errorf("unknown kind %s %s", head.APIVersion, head.Kind)
	}
	text, err := yaml.YAMLToJSONStrict(document)
	if err != nil {
		return nil, err
	}
	ignored, err := json.UnmarshalStrict(text, object) // knows small from capital letters, as the API server does
	if err != nil || len(ignored) > 0 {
		return nil, errors.Join(append(ignored, err)...)
	}
	if k, ok := object.(knativeType); ok {
		ctx := feature.ToContext(context.Background(), feature.FromContextOrDefaults(context.Background()))
		k.SetDefaults(ctx)
		// Warnings are about settings that are safe only by default. Ours are written out.
		if err := k.Validate(ctx).Filter(apis.ErrorLevel); err != nil {
			return nil, err
		}
	}
	return object, nil
}

// podMonitor has the members of the Prometheus operator's PodMonitor that we use. Its module would be the largest of all.
type podMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Selector            metav1.LabelSelector `json:"selector"`
		PodTargetLabels     []string             `json:"podTargetLabels"`
		PodMetricsEndpoints []struct {
			Port        string          `json:"port"`
			Relabelings []relabelConfig `json:"relabelings"`
		} `json:"podMetricsEndpoints"`
	} `json:"spec"`
}

type relabelConfig struct {
	SourceLabels []string `json:"sourceLabels"`
	TargetLabel  string   `json:"targetLabel"`
}

// prometheusRule has those of a PrometheusRule. promtool checks the expressions.
type prometheusRule struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Groups []struct {
			Name  string `json:"name"`
			Rules []struct {
				Record      string            `json:"record"`
				Alert       string            `json:"alert"`
				Expr        string            `json:"expr"`
				For         string            `json:"for"`
				Labels      map[string]string `json:"labels"`
				Annotations map[string]string `json:"annotations"`
			} `json:"rules"`
		} `json:"groups"`
	} `json:"spec"`
}

func oneOf[T comparable](value T, name string, allowed ...T) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("%s: %v (one of %v)", name, value, allowed)
}

func missing(name string, isMissing bool) error {
	if !isMissing {
		return nil
	}
	return errors.New(name + ": missing")
}
