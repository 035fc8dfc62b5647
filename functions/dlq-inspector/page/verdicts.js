// What a plan says of its letters: up to ten before and after, and the verdict on each. Of a replay or a discard, which letters were skipped.
import { get } from "./api.js"
import { changes } from "./changes.js"
import { button, count, h, marked, plural, safe } from "./dom.js"
import { outcomes, reasons, word } from "./outcomes.js"
import { textOf } from "./parts.js"
import { address } from "./state.js"
import { ask } from "./worker.js"

const page = 50

const link = (id) => h("a", { href: address({ view: "letters", filter: { status: "all" }, letter: id }), "data-internal": "", class: "letter-link" }, `Letter …${id.slice(-6)}`)
const why = (v) => [h("span", { class: `pill ${v.verdict}` }, word(v.verdict)), v.code && [" ", h("code", {}, safe(v.code, 200))]].flat()

// details returns the elements for work that has ended.
export const details = (w) => [
  w.dry_run && w.transform && w.samples?.length > 0 && h("section", { "aria-labelledby": "samples-title" },
    h("h3", { id: "samples-title" }, "Before and after"),
    h("p", { class: "quiet" }, `${plural(w.samples.length, "letter")} of ${count(w.matched)}, as indented JSON with sorted members.`),
    w.samples.map((s) => sample(s, s === (w.samples.find((other) => other.after !== null) ?? w.samples[0])))),
  (w.dry_run ? w.done > 0 : w.outcomes.skipped > 0) && h("section", { "aria-labelledby": "verdicts-title" },
    h("h3", { id: "verdicts-title" }, w.dry_run ? "The verdict on each letter" : "Skipped letters"),
    verdicts(w)),
]

function sample(s, open) {
  const box = h("div", {})
  compare(s, `Changes of the letter …${s.id.slice(-6)}`, box)
  return h("details", { class: "sample", open }, h("summary", {}, why(s), ` …${s.id.slice(-6)}`), h("p", {}, link(s.id), s.reason && [": ", safe(s.reason)]), box)
}

const whole = (text, encoding, bytes) => encoding === "base64" ? atob(text).length === bytes : new TextEncoder().encode(text).length === bytes

async function compare(s, label, box) {
  if (s.after === null) {
    box.replaceChildren(h("p", { class: "quiet" }, "Nothing would be sent. The value is:"), h("pre", { class: "value exact", tabindex: 0, role: "region", "aria-label": label, dir: "ltr" }, marked(textOf(s.before, s.before_encoding))))
    return
  }
  const raw = [textOf(s.before, s.before_encoding), textOf(s.after, s.after_encoding)]
  const tidy = await Promise.all(raw.map((text) => ask("sorted", text)))
  const all = whole(s.before ?? "", s.before_encoding, s.before_bytes) && whole(s.after, s.after_encoding, s.after_bytes)
  const pieces = await ask("diff", ...tidy.includes(null) ? raw : tidy)
  box.replaceChildren(...[!all && h("p", { class: "warning" }, `Only the beginnings are compared: the values have ${plural(s.before_bytes, "byte")} and ${plural(s.after_bytes, "byte")}.`), changes(pieces, label)].filter(Boolean))
}

// verdicts is a list in pages. That of a plan has a filter for each verdict and each code.
function verdicts(w) {
  let token = null, turn = 0, choice = {}
  const list = h("ol", { class: "verdict-list" })
  const said = h("p", { class: "quiet", role: "status" })
  const more = button("More verdicts", () => load())
  const filters = h("div", { id: "verdict-filters", class: "row-of-buttons", role: "group", "aria-label": "Which verdicts" })

  function choose(pressed, next) {
    for (const b of filters.children) b.setAttribute("aria-pressed", String(b === pressed))
    choice = next
    token = null
    load(true)
  }
  const filter = (text, next) => filters.append(button(text, (e) => choose(e.currentTarget, next), { "aria-pressed": "false" }))

  async function load(fresh = false) {
    const mine = ++turn
    let answer
    try {
      answer = await get(`/dlq/replays/${w.id}/verdicts?${new URLSearchParams({ limit: page, ...choice, ...(token && { page_token: token }) })}`)
    } catch (e) {
      said.textContent = e.message
      return
    }
    if (mine !== turn) return
    if (fresh) list.replaceChildren()
    list.append(...answer.verdicts.map((v) => h("li", {}, link(v.id), why(v), v.reason && h("span", { class: "quiet" }, safe(v.reason, 300)))))
    token = answer.next_page_token
    more.hidden = !token
    said.textContent = list.children.length ? "" : "None. Verdicts are kept for seven days."
  }

  filter(`All ${count(w.done)}`, {})
  for (const [outcome, n] of outcomes(w)) filter(`${count(n)} ${word(outcome)}`, { verdict: outcome })
  for (const [code, n] of reasons(w).slice(0, 10)) filter([`${count(n)} × `, safe(code, 60)], { code })
  choose(filters.firstChild, {})
  return [w.dry_run && filters, list, said, more]
}
