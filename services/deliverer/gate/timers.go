package gate

import (
	"container/heap"
	"time"
)

// timers say when endpoints are to be considered again.
type timers[T any] struct{ heap timerHeap[T] }

type timer[T any] struct {
	at time.Time
	e  *endpoint[T]
}

// add sets a timer, unless the endpoint has an earlier one. It says whether the
// new one is now the first of all.
func (t *timers[T]) add(e *endpoint[T], at time.Time) bool {
	if !e.timer.IsZero() && !at.Before(e.timer) {
		return false
	}
	e.timer = at
	heap.Push(&t.heap, timer[T]{at, e})
	return t.heap[0].e == e
}

// due takes out the timers that have come.
func (t *timers[T]) due(now time.Time, do func(*endpoint[T])) {
	for len(t.heap) > 0 && !t.heap[0].at.After(now) {
		top := heap.Pop(&t.heap).(timer[T])
		if top.e.timer.Equal(top.at) { // else it was replaced by an earlier one
			top.e.timer = time.Time{}
			do(top.e)
		}
	}
}

// next is when the first timer comes; zero if there is none.
func (t *timers[T]) next() time.Time {
	if len(t.heap) == 0 {
		return time.Time{}
	}
	return t.heap[0].at
}

type timerHeap[T any] []timer[T]

func (h timerHeap[T]) Len() int           { return len(h) }
func (h timerHeap[T]) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h timerHeap[T]) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *timerHeap[T]) Push(x any)        { *h = append(*h, x.(timer[T])) }
func (h *timerHeap[T]) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = timer[T]{}
	*h = old[:len(old)-1]
	return last
}
