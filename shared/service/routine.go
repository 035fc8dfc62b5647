package service

import (
	"sync"
	"time"
)

// summaryEvery is how long routine events are counted before one log line sums them up.
const summaryEvery = 10 * time.Second

// summaries logs requests of one kind, events that went as they should or requests that were refused because of an overload: one line for
// many. A line for each costs more than the request does, and says nothing that the metrics do not. Safe for concurrent use.
type summaries struct {
	log func(route string, n int, times ...any) // one line

	mu     sync.Mutex
	routes map[string]*summary
	timer  *time.Timer // runs while there is something to tell: an idle function is left asleep
}

type summary struct {
	events       int
	total, worst time.Duration
}

func (s *summaries) add(route string, elapsed time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := s.routes[route]
	if sum == nil {
		if s.routes == nil {
			s.routes = map[string]*summary{}
		}
		sum = &summary{}
		s.routes[route] = sum
	}
	sum.events++
	sum.total, sum.worst = sum.total+elapsed, max(sum.worst, elapsed)
	if s.timer == nil {
		s.timer = time.AfterFunc(summaryEvery, s.flush)
	}
}

// flush logs what there is to tell. The last call is at the stop.
func (s *summaries) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	for route, sum := range s.routes {
		s.log(route, sum.events, "mean_ms", milliseconds(sum.total/time.Duration(sum.events)), "worst_ms", milliseconds(sum.worst))
	}
	clear(s.routes)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
