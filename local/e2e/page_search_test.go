//go:build integration && browser

package e2e

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// A search for what many letters have, but none of the newest, goes on by itself until it finds some, and says how far back it has looked.
func TestOperatorsPageSearchesBack(t *testing.T) {
	t.Parallel()
	s, b := atPage(t)
	const newer, older = 7_000, 3_000 // more than the first two pages look through, and more than are sorted for a page
	require.Empty(t, s.rows(t, `
		insert into dead_letters (id, exact, value_sha256, value, headers, attributes, code, reason, fingerprint, first_failed_at, last_failed_at)
		select gen_random_uuid(), true, sha256(i::text::bytea), convert_to(case when i > $1::int then 'older' || i % 10 else 'newer' end, 'UTF8'), '[]', '{}', 'c', 'r', 'f',
			now(), now() - i * interval '1 s'
		from generate_series(1, $1::int + $2::int) i`, newer, older))
	require.Empty(t, s.rows(t, `
		with taken as (delete from dead_letters_to_index returning letter_id)
		insert into dead_letter_texts
		select id, dead_letter_text(code, reason, symbol, event_source, event_id, value) from dead_letters join taken on letter_id = id`))
	s.eventually(t, []string{fmt.Sprint(newer + older)}, "select count(*)::text from dead_letter_texts") // a tick may have taken some
	require.Empty(t, s.rows(t, "analyze dead_letter_texts"))

	shown := func(n int) string {
		return fmt.Sprintf(`document.querySelectorAll("#list .row").length === %d && !document.getElementById("list").hasAttribute("aria-busy")`, n)
	}
	b.open(t, s.env["GATEWAY_URL"]+"/dlq?view=letters&q=older")
	b.holds(t, shown(100))
	require.Equal(t, "first 100", b.script(t, `return document.getElementById("list-count").textContent`))

	b.open(t, s.env["GATEWAY_URL"]+"/dlq?view=letters&q=older7") // 300 letters, which the index finds
	b.holds(t, shown(100))

	require.Empty(t, s.rows(t, "update dead_letters set last_failed_at = now() where id in (select id from dead_letters where value = convert_to('older7', 'UTF8') limit 2)"))
	b.open(t, s.env["GATEWAY_URL"]+"/dlq?view=letters&q=older")
	b.holds(t, shown(2))
	b.shows(t, "#list-count", "first 2, searched back to")
	require.Equal(t, "true", b.script(t, `return String(document.getElementById("nothing").hidden)`))
	b.clickOn(t, "button", "More letters")
	b.holds(t, shown(102))

	b.open(t, s.env["GATEWAY_URL"]+"/dlq?view=letters&q=no-such-text")
	b.shows(t, "#nothing", "No letter matches.")
}
