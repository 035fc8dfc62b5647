package metric

import (
	"fmt"
	"io"
	"runtime"

	"github.com/VictoriaMetrics/metrics"
)

// version and revision are set by the linker: see the Makefile and deploy/Dockerfile.
var version, revision = "unknown", "unknown"

func writeBuild(w io.Writer) {
	metrics.WriteGaugeUint64(w, fmt.Sprintf("marketdata_build_info{version=%q,revision=%q,goversion=%q}", version, revision, runtime.Version()), 1)
}

// process describes the families of the process that are written.
var process = [...]Help{
	{"marketdata_build_info", "The build of this program. The value is always 1."},
	{"go_gc_cpu_seconds_total", "CPU time spent by the garbage collector."},
	{"go_gc_duration_seconds", "Pauses of the last 256 garbage collections."},
	{"go_gomaxprocs", "Threads that may run Go code at a time."},
	{"go_goroutines", "Goroutines that exist."},
	{"go_info", "The version of Go. The value is always 1."},
	{"go_memlimit_bytes", "The soft memory limit of the Go runtime."},
	{"go_memstats_alloc_bytes", "Bytes of heap objects that are allocated and not yet freed."},
	{"go_memstats_alloc_bytes_total", "Bytes of heap objects allocated since the start."},
	{"go_memstats_frees_total", "Heap objects freed since the start."},
	{"go_memstats_heap_alloc_bytes", "Bytes of heap objects that are allocated and not yet freed."},
	{"go_memstats_heap_idle_bytes", "Bytes in heap spans without objects."},
	{"go_memstats_heap_inuse_bytes", "Bytes in heap spans with objects."},
	{"go_memstats_heap_objects", "Heap objects that are allocated and not yet freed."},
	{"go_memstats_heap_released_bytes", "Bytes of the heap returned to the operating system."},
	{"go_memstats_heap_sys_bytes", "Bytes of the heap obtained from the operating system."},
	{"go_memstats_last_gc_time_seconds", "When the last garbage collection ended, in seconds since 1970."},
	{"go_memstats_mallocs_total", "Heap objects allocated since the start."},
	{"go_memstats_next_gc_bytes", "Size of the heap at which the next garbage collection begins."},
	{"go_memstats_stack_inuse_bytes", "Bytes of stacks."},
	{"go_memstats_sys_bytes", "Bytes obtained from the operating system."},
	{"go_mutex_wait_seconds_total", "Time that goroutines waited for mutexes."},
	{"go_threads", "Threads that were created."},
	{"process_cpu_seconds_total", "CPU time of the process, user and system."},
	{"process_max_fds", "Limit on open file descriptors."},
	{"process_open_fds", "Open file descriptors."},
	{"process_resident_memory_bytes", "Resident memory."},
	{"process_resident_memory_peak_bytes", "Largest resident memory since the start."},
	{"process_start_time_seconds", "When the process started, in seconds since 1970."},
	{"process_virtual_memory_bytes", "Virtual memory."},
}
