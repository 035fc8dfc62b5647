// Package deploy contains only tests. They compare manifests, configuration examples and READMEs with the code, since nothing else
// reads them before they are deployed.
package deploy
