//go:build !linux

package process

import "syscall"

// setOrphanSignal does nothing: only Linux can signal a child when its parent dies. The next start cleans up instead.
func setOrphanSignal(*syscall.SysProcAttr, syscall.Signal) {}

func descendants(int) []int { return nil }
