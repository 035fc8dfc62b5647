package process

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

func setOrphanSignal(attr *syscall.SysProcAttr, s syscall.Signal) { attr.Pdeathsig = s }

// descendants returns the children of pid and their descendants (proc_pid_task_children(5)); none if pid is gone.
func descendants(pid int) []int {
	var all []int
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // the pattern is well-formed
	for _, file := range tasks {
		text, _ := os.ReadFile(file) //nolint:gosec // in /proc; a task that has ended has no children
		for _, field := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				all = append(append(all, child), descendants(child)...)
			}
		}
	}
	return all
}
