package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"os"
	"sort"
	"time"

	"gmpscope.test/workloads/internal/control"
)

// seen is what all clients together saw: the time from an order to its answer.
type seen struct {
	Orders int   `json:"orders"`
	P50    int64 `json:"p50_ns"`
	P99    int64 `json:"p99_ns"`
	Max    int64 `json:"max_ns"`
}

// load orders from a server for the time of -for, and prints what the clients saw.
func load() {
	clients := flag.Int("clients", 16, "how many order at the same time, each on a connection of its own")
	pause := flag.Duration("pause", 20*time.Millisecond, "mean time between two orders of a client; longer if the answer takes longer")
	control.Main(control.Workload{Name: "shop", Run: func(p *control.Phase) {
		web := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: *clients}}
		answers := make(chan []time.Duration)
		for i := 0; i < *clients; i++ {
			c := client{web: web, url: flag.Arg(0), pause: *pause, random: rand.New(rand.NewSource(int64(i)))}
			go func() { answers <- c.order(p) }()
		}
		var all []time.Duration
		for i := 0; i < *clients; i++ {
			all = append(all, <-answers...)
		}
		if len(all) == 0 {
			control.Check(errors.New("nothing was ordered"))
		}
		control.Check(json.NewEncoder(os.Stdout).Encode(sum(all)))
	}})
}

// sum sorts the times of all answers.
func sum(all []time.Duration) seen {
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	at := func(percent int) int64 { return all[(len(all)-1)*percent/100].Nanoseconds() }
	return seen{Orders: len(all), P50: at(50), P99: at(99), Max: at(100)}
}

type client struct {
	web    *http.Client
	url    string
	pause  time.Duration
	random *rand.Rand
}

// order orders until the phase is to end, and returns how long each answer took. A client that is late does not catch
// up: it orders at once, and waits from then on.
func (c *client) order(p *control.Phase) (took []time.Duration) {
	// Not all at once.
	time.Sleep(time.Duration(c.random.Int63n(int64(c.pause))))
	for !p.Stopped() {
		began := time.Now()
		control.Check(c.once())
		took = append(took, time.Since(began))
		// From half of the pause to one and a half.
		next := began.Add(c.pause/2 + time.Duration(c.random.Int63n(int64(c.pause))))
		select {
		case <-time.After(time.Until(next)):
		case <-p.Done():
		}
	}
	return took
}

// once orders, and reads all of the answer.
func (c *client) once() error {
	answer, err := c.web.Get(c.url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", c.url, answer.Status)
	}
	return nil
}
