// Everything about a letter except its value: its origin, its headers, its history.
import { button, count, exactly, h, plural, safe, when } from "./dom.js"
import { bytesOf, textOf } from "./parts.js"
import { changes } from "./changes.js"
import { address } from "./state.js"
import { ask } from "./worker.js"

const none = (text) => h("span", { class: "quiet" }, text)

// wire shows a key's or a header's value: null, empty, text and bytes look different.
function wire(value, encoding) {
  if (value === null || value === undefined) return none("null")
  if (value === "") return none("empty")
  if (encoding !== "base64") return safe(value, 1000)
  const bytes = bytesOf(value, "base64")
  const shown = [...bytes.subarray(0, 64)].map((b) => b.toString(16).padStart(2, "0")).join(" ")
  return h("span", {}, none(`${plural(bytes.length, "byte")}: `), h("code", {}, shown), bytes.length > 64 && none(" …"))
}

const entry = (name, value) => [h("dt", {}, name), h("dd", {}, value)]

export function facts(l) {
  const record = l.topic === null ? none("unknown") : h("span", {}, h("code", {}, safe(l.topic, 249)), ` partition ${l.partition}, offset ${l.offset}`)
  const link = (filter, text) => h("a", { href: address({ view: "letters", filter }), "data-internal": "" }, text)
  return h("dl", { class: "facts" },
    entry("Record", record),
    entry("Copy", l.exact ? "exact: key, value and headers are those of the original record" : "as it was delivered: the original record could not be read"),
    entry("Recorded", exactly(l.recorded_at)),
    entry("Key", h("span", {}, wire(l.key, l.key_encoding), l.key !== null && [" · ", link({ status: "all", same_key_as: l.id }, "all letters with this key")])),
    l.symbol && entry("Symbol", h("span", {}, safe(l.symbol), " · ", link({ status: "all", symbol: l.symbol }, "all letters of this symbol"))),
    entry("Cause", h("span", {}, h("code", {}, l.fingerprint), " · ", link({ status: "all", fingerprint: l.fingerprint }, "all letters of this cause"))),
    l.content_type && entry("Content type", safe(l.content_type, 200)),
    entry("Failures", h("span", {}, count(l.failure_count), " · first ", when(l.first_failed_at), ", last ", when(l.last_failed_at))),
    entry("Replays", count(l.replay_count)),
    entry("Letter", h("code", {}, l.id)))
}

// headers shows the record's headers in their order, repeated ones included, and the event's attributes. Long lists come in steps.
export function headers(l) {
  const step = 100
  const rows = (l.headers ?? []).map((x) => () => h("tr", {}, h("th", { scope: "row" }, x.name === "" ? none("empty name") : safe(x.name, 300)), h("td", {}, wire(x.value, x.encoding))))
  const attributes = Object.entries(l.attributes ?? {}).map(([n, v]) => () => h("tr", {}, h("th", { scope: "row" }, safe(n, 300)), h("td", {}, wire(v, "text"))))
  const table = (title, all) => {
    const body = h("tbody", {})
    const more = button("", () => add())
    const add = () => {
      body.append(...all.slice(body.children.length, body.children.length + step).map((row) => row()))
      more.hidden = body.children.length >= all.length
      more.textContent = `Show more of ${count(all.length)}`
    }
    add()
    return h("div", {}, h("h4", {}, `${title} (${count(all.length)})`), all.length ? h("table", { class: "pairs" }, body) : h("p", { class: "quiet" }, "None."), more)
  }
  return h("div", { id: "headers" }, table("Record headers, in order", rows), table("Event attributes", attributes))
}

const actions = {
  replay: "started a replay", resolve: "replayed it: the function accepted it", reopen: "replayed it: it is open again", send: "sent a copy to the topic",
  discard: "discarded it", restore: "reopened it", recover: "reopened it",
}

// timeline shows failures and what operators did as one history, newest first.
export function timeline(l) {
  const failures = l.failures.map((f) => ({ at: f.failed_at ?? "", row: () => h("li", { class: "failed" },
    h("span", { class: "event" }, h("strong", {}, "Refused"), f.function && [" by ", safe(f.function, 200)], ": ", h("code", {}, safe(f.code, 200)), f.reason && [" ", safe(f.reason)]), exactly(f.failed_at)) }))
  const audit = l.audit.map((a) => ({ at: a.at ?? "", row: () => h("li", { class: a.action },
    h("span", { class: "event" }, h("strong", {}, safe(a.who, 200)), " ", actions[a.action] ?? safe(a.action), a.reason && [": ", safe(a.reason)], sent(l, a)), exactly(a.at)) }))
  const all = [...failures, ...audit].sort((a, b) => a.at < b.at ? 1 : a.at > b.at ? -1 : 0)
  const list = h("ol", { id: "history", class: "timeline" })
  const more = button("", () => add())
  const add = () => {
    list.append(...all.slice(list.children.length, list.children.length + 50).map((e) => e.row()))
    more.hidden = list.children.length >= all.length
    more.textContent = `Show older (${count(all.length)} in all)`
  }
  add()
  return h("div", {}, list, more)
}

// sent offers to compare the value that an edited replay sent with the original.
function sent(l, a) {
  if (typeof a.value !== "string") return a.value_bytes ? none(` (an edited value of ${plural(a.value_bytes, "byte")})`) : null
  const box = h("div", {})
  const show = async () => box.replaceChildren(changes(await ask("diff", textOf(l.value, l.value_encoding), textOf(a.value, a.value_encoding))))
  return h("span", {}, " ", button("What was sent", show, { class: "link" }), box)
}

// pill shows a status.
export const pill = (status) => h("span", { class: `pill ${status}` }, status)

