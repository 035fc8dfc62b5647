package load

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"marketdata/shared/testenv/wire"
)

// things are jobs, letters or the like that earlier rows have made.
type things struct {
	run      *run
	function string
	find     string // a query for their ids
	headers  []string
}

// flood floods a route with requests for one after the other. path and body have {id} for its id; without a body, the request has none.
func (s things) flood(name, method, path, body string) flooded {
	target, headers := s.run.env[variable(s.function)]+path, s.headers
	if body != "" {
		headers = append([]string{"Content-Type: application/json"}, headers...)
	}
	var ids []string
	var at atomic.Int64
	return flooded{
		name: name, function: s.function,
		prepare: func(ctx context.Context) error {
			if err := s.run.pool.QueryRow(ctx, "select array("+s.find+")").Scan(&ids); err != nil {
				return fmt.Errorf("find what earlier rows have made: %w", err)
			}
			if len(ids) == 0 {
				return errors.New("earlier rows have made none")
			}
			return nil
		},
		next: func(int) []byte {
			id := strings.NewReplacer("{id}", ids[int(at.Add(1))%len(ids)])
			var sent []byte
			if body != "" {
				sent = []byte(id.Replace(body))
			}
			return wire.Request(method, id.Replace(target), sent, append([]string{s.run.clients.next()}, headers...)...)
		},
	}
}

// change floods a route whose change can be made once. kept is a query for how many have been made.
func (s things) change(name, method, path, body, kept string) flooded {
	f := s.flood(name, method, path, body)
	f.once, f.kept = true, s.run.rows(kept)
	return f
}

// jobFloods lists the routes of one job.
func (m *run) jobFloods() []flooded {
	const one = "/prices/poll/{id}"
	jobs := things{run: m, function: "poll", find: "select id from polling_jobs limit 300000"}
	return []flooded{
		jobs.flood("one job", "GET", one, ""),
		jobs.flood("runs of a job", "GET", one+"/runs?limit=20", ""),
		jobs.flood("pause of a job", "POST", one+"/pause", ""),
		jobs.flood("resumption of a job", "POST", one+"/resume", ""),
		jobs.change("deletion of a job", "DELETE", one, "", "select -count(*) from polling_jobs"),
	}
}

// backfillFloods lists the routes of one backfill.
func (m *run) backfillFloods() []flooded {
	const one = "/prices/backfill/{id}"
	backfills := things{run: m, function: "poll", find: "select id from backfills limit 300000"}
	return []flooded{
		backfills.flood("one backfill", "GET", one, ""),
		backfills.flood("pause of a backfill", "POST", one+"/pause", ""),
		backfills.flood("resumption of a backfill", "POST", one+"/resume", ""),
		backfills.change("deletion of a backfill", "DELETE", one, "", "select -count(*) from backfills"),
	}
}

// letterFloods lists the routes of letters. compute-ma refuses them again, so that each can be replayed any number of times.
func (m *run) letterFloods(token string) []flooded {
	const (
		one     = "/dlq/messages/{id}"
		bulk    = "/dlq/replays/{id}"
		because = `{"reason":"overload"}`
	)
	among := func(find string) things {
		return things{run: m, function: "dlq-inspector", find: find, headers: []string{token}}
	}
	open := among("select id::text from dead_letters where status = 'open' order by id limit 20000") // none is in flight twice
	discarded := among("select id::text from dead_letters where status = 'discarded' limit 20000")
	bulks := among("select id::text from dead_letter_replays limit 20000")
	kept := func(f flooded, query string) flooded {
		f.kept = m.rows(query)
		return f
	}
	cancel := bulks.flood("cancellation of a bulk replay", "DELETE", bulk, "")
	cancel.once = true // most have ended
	return []flooded{
		open.flood("one letter", "GET", one, ""),
		kept(open.flood("replay of one letter", "POST", one+"/replay", `{"force":true}`),
			"select count(*) from dead_letter_audit where action = 'reopen'"), // after the verdict
		kept(open.flood("new bulk replay", "POST", "/dlq/replays", `{"ids":["{id}"],"force":true}`), "select count(*) from dead_letter_replays where action = 'replay'"),
		bulks.flood("one bulk replay", "GET", bulk, ""),
		bulks.flood("verdicts of a bulk replay", "GET", bulk+"/verdicts?limit=20", ""),
		bulks.flood("bulk replays", "GET", "/dlq/replays?limit=20", ""),
		kept(open.flood("new bulk discard", "POST", "/dlq/discards", `{"ids":["{id}"],"reason":"overload"}`), "select count(*) from dead_letter_replays where action = 'discard'"),
		cancel,
		open.change("discard of one letter", "POST", one+"/discard", because, "select count(*) from dead_letter_audit where action = 'discard'"),
		discarded.change("restoration of one letter", "POST", one+"/restore", because, "select count(*) from dead_letter_audit where action = 'restore'"),
	}
}
