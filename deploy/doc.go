// Package deploy is tests alone: they hold the manifests to the code, which nobody else reads here before a cluster does.
package deploy
