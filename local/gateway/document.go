package gateway

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"marketdata/shared/api"
	"marketdata/shared/request"
)

// document holds the parts of a function's OpenAPI document that the gateway uses.
type document struct {
	Paths      map[string]any `json:"paths"`
	Components struct {
		Schemas         map[string]any `json:"schemas"`
		SecuritySchemes map[string]any `json:"securitySchemes"`
		Headers         map[string]any `json:"headers"`
	} `json:"components"`
}

// documents fetches the functions' documents and keeps the last one of each, so that the merged document does not lose routes while a
// function restarts.
type documents struct {
	client *http.Client
	mu     sync.Mutex
	kept   map[string]document
}

func newDocuments() *documents {
	return &documents{client: &http.Client{Timeout: 5 * time.Second}, kept: map[string]document{}}
}

// of returns a function's current document, or the last one with the error that prevented fetching the current one.
func (d *documents) of(r *http.Request, name, target string) (doc document, known bool, err error) {
	doc, err = d.fetch(r, target)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		d.kept[name] = doc
		return doc, true, nil
	}
	doc, known = d.kept[name]
	return doc, known, err
}

func (d *documents) fetch(r *http.Request, target string) (doc document, err error) {
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, target, nil)
	if err != nil {
		return doc, err
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return doc, err
	}
	defer resp.Body.Close() //nolint:errcheck // read whole
	if resp.StatusCode != http.StatusOK {
		return doc, fmt.Errorf("status %d", resp.StatusCode)
	}
	return doc, json.NewDecoder(resp.Body).Decode(&doc)
}

// openAPI merges the functions' documents: their public paths and all schemas. Schemas of the same name (problem documents) are equal
// in all functions. Functions are sorted by name, so that the result is stable.
func (g *Gateway) openAPI(w http.ResponseWriter, r *http.Request) {
	paths, schemas, security, headers := map[string]any{}, map[string]any{}, map[string]any{}, map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(g.functions)) {
		replica, _ := g.functions[name].Next() // one that is not ready still has its document
		doc, known, err := g.documents.of(r, name, replica.String()+"/openapi.json")
		if err != nil {
			g.log.WarnContext(r.Context(), "could not fetch the OpenAPI document", "function", name, "err", err)
		}
		if !known {
			continue
		}
		for path, item := range doc.Paths {
			if owner, public := functionOf(path); public && owner == name {
				paths[path] = item
			}
		}
		maps.Copy(schemas, doc.Components.Schemas)
		maps.Copy(security, doc.Components.SecuritySchemes)
		maps.Copy(headers, doc.Components.Headers)
	}
	maps.Copy(paths, ownPaths)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("X-Request-ID", request.ID(r.Context()))
	_ = json.NewEncoder(w).Encode(map[string]any{ // an error means that the client went away
		"openapi":    "3.1.0",
		"info":       map[string]any{"title": "Market data", "version": "1.0.0", "description": introduction, "license": map[string]any{"name": "MIT", "identifier": "MIT"}},
		"servers":    []any{map[string]any{"url": "/", "description": "The gateway that this document comes from"}},
		"tags":       api.Tags,
		"paths":      paths,
		"components": map[string]any{"schemas": schemas, "securitySchemes": security, "headers": headers},
	})
}
