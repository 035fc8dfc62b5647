package serving

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"sigs.k8s.io/yaml"
)

// Spec is what the manifest of a Knative Service says about running it.
type Spec struct {
	Timeout     time.Duration // for a whole request; then 504
	Concurrency int           // requests in flight that a replica takes at the same time; 0: any number
	Target      float64       // requests in flight that a replica should have on average
	MinScale    int
	MaxScale    int // 0: no limit
}

// Knative's defaults (serving, pkg/apis/config/defaults.go and pkg/autoscaler/config/config.go).
const (
	defaultTimeout     = 300 * time.Second
	defaultTarget      = 100 // without containerConcurrency
	defaultUtilization = 70  // percent
	autoscaling        = "autoscaling.knative.dev/"
)

// Load reads the Services of the folder's base, with the patches that its kustomization applies to them. An autoscaling
// annotation that is not emulated is an error: the local system would behave otherwise than the cluster.
func Load(dir string) (map[string]Spec, error) {
	base := filepath.Join(dir, "base")
	patches, err := servicePatches(base)
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(base, "*.yaml"))
	if err != nil {
		return nil, err
	}
	specs := map[string]Spec{}
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // the folder is the operator's choice
		if err != nil {
			return nil, fmt.Errorf("read manifest: %w", err)
		}
		for _, doc := range bytes.Split(text, []byte("\n---")) {
			var head knativeService
			if err := yaml.Unmarshal(doc, &head); err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			if head.APIVersion != "serving.knative.dev/v1" || head.Kind != "Service" {
				continue
			}
			if specs[head.Metadata.Name], err = specOf(head.Metadata.Name, doc, patches); err != nil {
				return nil, fmt.Errorf("%s: Service %s: %w", file, head.Metadata.Name, err)
			}
		}
	}
	return specs, nil
}

// servicePatch is a JSON patch (RFC 6902) of the Services with these names.
type servicePatch struct {
	names *regexp.Regexp
	ops   jsonpatch.Patch
}

// servicePatches returns the patches that the kustomization applies to Services.
func servicePatches(base string) (patches []servicePatch, err error) {
	var kustomization struct {
		Patches []struct {
			Path   string `json:"path"`
			Target struct {
				Kind string `json:"kind"`
				Name string `json:"name"`
			} `json:"target"`
		} `json:"patches"`
	}
	text, err := os.ReadFile(filepath.Join(base, "kustomization.yaml")) //nolint:gosec // the folder is the operator's choice
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if err := yaml.Unmarshal(text, &kustomization); err != nil {
		return nil, fmt.Errorf("%s: %w", base, err)
	}
	for _, p := range kustomization.Patches {
		if p.Target.Kind != "Service" || p.Path == "" {
			continue
		}
		names, err := regexp.Compile("^(?:" + cmp.Or(p.Target.Name, ".*") + ")$") // as kustomize does
		if err != nil {
			return nil, fmt.Errorf("target of %s: %w", p.Path, err)
		}
		text, err := os.ReadFile(filepath.Join(base, p.Path)) //nolint:gosec // named by the kustomization
		if err != nil {
			return nil, fmt.Errorf("read patch: %w", err)
		}
		ops, err := yaml.YAMLToJSON(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.Path, err)
		}
		patch, err := jsonpatch.DecodePatch(ops)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.Path, err)
		}
		patches = append(patches, servicePatch{names, patch})
	}
	return patches, nil
}

// knativeService is serving.knative.dev/v1 Service, limited to the members that say how to run it.
type knativeService struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		Template struct {
			Metadata struct {
				Annotations map[string]string `json:"annotations"`
			} `json:"metadata"`
			Spec struct {
				ContainerConcurrency int    `json:"containerConcurrency"`
				TimeoutSeconds       *int64 `json:"timeoutSeconds"`
			} `json:"spec"`
		} `json:"template"`
	} `json:"spec"`
}

func specOf(name string, doc []byte, patches []servicePatch) (Spec, error) {
	text, err := yaml.YAMLToJSON(doc)
	if err != nil {
		return Spec{}, err
	}
	for _, p := range patches {
		if !p.names.MatchString(name) {
			continue
		}
		if text, err = p.ops.Apply(text); err != nil {
			return Spec{}, fmt.Errorf("patch: %w", err)
		}
	}
	var s knativeService
	if err := yaml.Unmarshal(text, &s); err != nil {
		return Spec{}, err
	}
	revision := s.Spec.Template.Spec
	spec := Spec{Timeout: defaultTimeout, Concurrency: revision.ContainerConcurrency}
	if revision.TimeoutSeconds != nil {
		spec.Timeout = time.Duration(*revision.TimeoutSeconds) * time.Second
	}
	target, utilization := float64(defaultTarget), float64(defaultUtilization)
	if spec.Concurrency > 0 {
		target = float64(spec.Concurrency)
	}
	for name, value := range s.Spec.Template.Metadata.Annotations {
		if err := spec.annotate(name, value, &target, &utilization); err != nil {
			return Spec{}, fmt.Errorf("annotation %s: %w", name, err)
		}
	}
	if spec.Concurrency > 0 {
		target = math.Min(target, float64(spec.Concurrency))
	}
	spec.Target = target * utilization / 100
	return spec, nil
}

// annotate applies one annotation of the revision.
func (s *Spec) annotate(name, value string, target, utilization *float64) (err error) {
	switch name {
	case autoscaling + "min-scale":
		s.MinScale, err = strconv.Atoi(value)
	case autoscaling + "max-scale":
		s.MaxScale, err = strconv.Atoi(value)
	case autoscaling + "target":
		*target, err = strconv.ParseFloat(value, 64)
	case autoscaling + "target-utilization-percentage":
		*utilization, err = strconv.ParseFloat(value, 64)
	default:
		if len(name) > len(autoscaling) && name[:len(autoscaling)] == autoscaling {
			return errors.New("not emulated: leave it out, or run without SCALE_TO_ZERO")
		}
	}
	return err
}
