// The filters of the list of letters.
import { $, button, h, safe } from "./dom.js"
import { address, filterNames } from "./state.js"

const fields = ["q", "symbol", "topic", "since", "until"]
const statuses = ["open", "replaying", "resolved", "sent", "discarded", "all"]
let filter = {}
let on = () => {}
export const listen = (f) => { on = f }

// Fields of date and time have no zone: they are taken for UTC, and labelled so.
const toField = (iso) => (iso ?? "").replace(/(:\d\d)?(\.\d+)?Z$/, "")
const fromField = (text) => text && text + (text.length === 16 ? ":00Z" : "Z")

// show puts a filter into the fields.
export function show(next) {
  filter = next
  for (const name of fields) {
    const value = name === "since" || name === "until" ? toField(filter[name]) : filter[name] ?? ""
    if ($("f-" + name) !== document.activeElement) $("f-" + name).value = value
  }
  const status = filter.status ?? "open"
  $("f-status").replaceChildren(...statuses.map((s) => h("a", { href: address({ view: "letters", filter: { ...filter, status: s } }), "data-internal": "", class: "tab", "aria-current": s === status && "true" }, s)))
  const chips = filterNames.filter((n) => filter[n] && n !== "status").map((n) => {
    const text = `${{ fingerprint: "cause", same_key_as: "key of the letter", q: "text", since: "from", until: "before" }[n] ?? n}: `
    return h("span", { class: "chip" }, text, safe(filter[n], 60), button("×", () => change({ [n]: "" }), { "aria-label": `Remove the filter ${n}` }))
  })
  $("chips").replaceChildren(...chips, ...(chips.length > 1 ? [button("Clear all", () => on({ status }), { class: "link" })] : []))
  if (["symbol", "topic", "since", "until"].some((n) => filter[n])) $("more-filters").open = true
}

const clean = (f) => Object.fromEntries(Object.entries(f).filter(([, v]) => v))

function change(part) {
  const next = clean({ ...filter, ...part })
  if (JSON.stringify(next) !== JSON.stringify(clean(filter))) on(next)
}

function read() {
  const value = Object.fromEntries(fields.map((n) => [n, $("f-" + n).value.trim()]))
  return { ...value, symbol: value.symbol.toUpperCase(), since: fromField(value.since), until: fromField(value.until) }
}

$("filter").addEventListener("submit", (e) => { e.preventDefault(); change(read()) })
for (const name of ["since", "until"]) $("f-" + name).addEventListener("change", () => change(read()))
