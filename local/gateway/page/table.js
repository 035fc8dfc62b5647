// The table of series. A refresh changes cells in place, and never moves a row: new series wait behind a button.
import { spark } from "./chart.js"
import { $, count, fill, h, plural, safe, when } from "./dom.js"
import { percent, places, rounded } from "./numbers.js"
import * as series from "./series.js"
import { address } from "./state.js"

const page = 200
let most = page
let rows = [] // series, in the order of their rows
let known = new Set() // keys of all series that there were when the rows were made
let drawn = new Map() // key -> { tr, cells }
let filter = {}, window = 0, planned = false
let visible = () => {}

// listen calls f with each series that comes into view.
export const listen = (f) => { visible = f }

const watch = new IntersectionObserver((entries) => entries.filter((e) => e.isIntersecting).forEach((e) => visible(series.all.get(e.target.dataset.key))), { rootMargin: "200px" })

// show makes the rows of a filter. complete says whether an empty list means that there are no series.
export function show(next, { more = false, ...how }) {
  if (!more && ["q", "kind", "attention"].some((n) => next[n] !== filter[n])) most = page
  if (more) most += page
  filter = next
  window = how.window; planned = how.planned
  const matching = series.sorted().filter((s) => series.matches(s, filter, window, planned))
  known = new Set(series.all.keys())
  rows = matching.slice(0, most)
  const trs = rows.map(row)
  if (trs.some((tr, i) => $("rows").children[i] !== tr) || trs.length !== $("rows").children.length) {
    const active = document.activeElement
    $("rows").replaceChildren(...trs)
    if (active?.isConnected && active !== document.activeElement) active.focus({ preventScroll: true })
  }
  $("more").hidden = matching.length <= most
  $("news").hidden = true
  const none = series.all.size === 0
  $("empty").hidden = !none || !how.complete
  $("filter").hidden = none
  $("table").hidden = rows.length === 0
  $("nothing").hidden = rows.length > 0 || !$("empty").hidden
  $("nothing").textContent = none ? "Prices and averages cannot be read right now." : "No series matches."
  $("count").textContent = rows.length < matching.length ? `first ${count(rows.length)} of ${count(matching.length)} series` : plural(rows.length, "series", "series")
  refresh(how)
}

// refresh draws the rows again, and offers new series. planned says whether jobs and backfills are known.
export function refresh(how) {
  window = how.window; planned = how.planned
  $("average-head").textContent = window ? `SMA ${window}` : "Average"
  rows.forEach((s) => draw(s))
  if (series.all.size === known.size) return
  const news = [...series.all.values()].filter((s) => !known.has(s.key) && series.matches(s, filter, window, planned)).length
  $("news").hidden = news === 0
  $("news").textContent = `Show ${count(news)} new ${news === 1 ? "series" : "series"}`
}

function row(s) {
  if (drawn.has(s.key)) return drawn.get(s.key).tr
  const cell = (name) => h("td", { class: name, data: { text: " " } })
  const cells = { chart: cell("chart-cell"), price: cell("price"), change: cell("change"), average: cell("average-cell"), asOf: cell("as-of"), state: cell("badges") }
  const link = h("a", { "data-internal": "" }, safe(s.symbol, 32))
  const tr = h("tr", { data: { key: s.key } }, h("th", { scope: "row" }, link, h("span", { class: "quiet" }, safe(s.provider, 40))), Object.values(cells))
  drawn.set(s.key, { tr, cells, link })
  watch.observe(tr)
  return tr
}

// put fills a cell if its text has changed.
function put(cell, text, title, ...children) {
  if (cell.dataset.text === text) return false
  cell.dataset.text = text
  cell.title = title
  fill(cell, ...children)
  return true
}

export function draw(s, { moved = false } = {}) {
  const d = drawn.get(s.key)
  if (!d) return
  const { cells, link } = d
  link.setAttribute("href", address({ ...filter, series: s.key, range: "" }))
  const places_ = s.price ? places(s.price) : 2, unit = series.currency(s)
  if (s.price) {
    put(cells.price, s.price + unit, `${s.price} ${unit}`, h("span", {}, rounded(s.price, places_)), h("span", { class: "unit" }, safe(unit, 12)))
    put(cells.asOf, s.as_of, "", when(s.as_of))
  } else {
    put(cells.price, "–", "No price yet", h("span", {}, "–"), h("span", { class: "unit" }))
    put(cells.asOf, "–", "", "–")
  }
  const average = s.averages.find((a) => a.window === window)
  put(cells.average, average ? average.average + average.complete : "–", average ? `${average.average}: the mean of ${average.points_used} points` : "", h("span", { class: average?.complete ? "" : "soft" }, average ? rounded(average.average, places_) : "–"))
  const basis = series.basis(s), change = basis && percent(Number(basis.price), Number(s.price))
  put(cells.change, change ? change.text + basis.at : "–", change ? `since ${basis.words} ${basis.at}: ${basis.price}` : "Nothing to compare with yet", h("span", { class: change?.sign > 0 ? "good" : change?.sign < 0 ? "bad" : "" }, change?.text ?? "–"))
  const badges = series.badges(s, window, planned)
  put(cells.state, badges.map((b) => b.join()).join(";"), "", badges.map(([kind, text, title]) => h("span", { class: "pill " + kind, title }, text)))
  if (s.points) put(cells.chart, `${s.points.length} ${s.points.at(-1)?.timestamp} ${s.points.at(-1)?.price}`, "", s.points.length > 0 && spark(s.points, label(s)))
  if (moved) {
    cells.price.classList.add("moved")
    setTimeout(() => cells.price.classList.remove("moved"), 200)
  }
}

const label = (s) => `${plural(s.points.length, "point")} since ${series.moment(s, s.points[0].timestamp)}, from ${s.points[0].price} to ${s.points.at(-1).price}`

// mark marks the row of the series in the panel.
export function mark(key) {
  for (const [k, { tr, link }] of drawn) {
    tr.classList.toggle("chosen", k === key)
    if (k === key) link.setAttribute("aria-current", "true")
    else link.removeAttribute("aria-current")
  }
}

export const focus = (key) => drawn.get(key)?.link.focus()
export const first = () => rows[0]?.key

$("rows").addEventListener("click", (e) => { // a click anywhere on a row is one on its link
  if (e.target.closest("a") || getSelection().toString()) return
  const d = drawn.get(e.target.closest("tr")?.dataset.key)
  d?.link.focus({ preventScroll: true })
  d?.link.click()
})
$("rows").addEventListener("keydown", (e) => {
  const by = { ArrowDown: 1, ArrowUp: -1 }[e.key], i = rows.findIndex((s) => s.key === e.target.closest("tr")?.dataset.key)
  if (!by || e.ctrlKey || e.metaKey || e.altKey || !rows[i + by]) return
  e.preventDefault()
  focus(rows[i + by].key)
})
