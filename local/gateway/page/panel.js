// One series beside the list (instead of it on a phone): a large chart, every average with all of its digits, and a table.
import { get } from "./api.js"
import { chart } from "./chart.js"
import { $, button, count, fill, h, plural, safe, when } from "./dom.js"
import { percent, places, rounded } from "./numbers.js"
import * as series from "./series.js"

const day = 86400000
const ranges = {
  hour: ["1 H", 3600000], day: ["1 D", day], month: ["1 M", 31 * day], year: ["1 Y", 366 * day], all: ["All", 0],
}
const rangesOf = (s) => s.bars === "1d" ? ["month", "year", "all"] : ["hour", "day", "all"]
const most = 10000 // points of a chart, the newest
const tabled = 100 // points of the table
const loading = "Loading …"

let shown = null // { s, range, window, prices, averages, drawn, at }
let turn = 0
let on = { range: () => {}, close: () => {} }
export const listen = (handlers) => { on = handlers }

export const key = () => shown?.s.key ?? ""

export function close() {
  turn++
  shown = null
  $("panel").hidden = true
  $("panel").replaceChildren()
}

// open shows a series. It draws the frame at once and the chart when its points are there.
export async function open(s, range, window, { focus = false } = {}) {
  const chosen = rangesOf(s).includes(range) ? range : s.bars === "1d" ? "year" : "hour"
  const same = shown?.s === s && shown.range === chosen && shown.window === window
  if (same) return
  const fresh = shown?.s !== s
  shown = { s, range: chosen, window, prices: [], averages: [], at: null }
  if (fresh) frame(s)
  for (const b of $("ranges").children) b.setAttribute("aria-pressed", String(b.dataset.range === chosen))
  refresh(s)
  if (focus) $("panel").focus()
  await load()
}

function frame(s) {
  $("panel").hidden = false
  fill($("panel"),
    h("div", { class: "panel-head" },
      h("h2", { id: "panel-title" }, safe(s.symbol, 32), h("span", { class: "quiet" }, " ", safe(s.provider, 40), ` · ${series.kind(s)}`)),
      button("×", () => on.close(), { id: "close-panel", "aria-label": "Close", title: "Close (Esc)" })),
    h("div", { id: "panel-price" }),
    h("div", { class: "panel-tools" },
      h("div", { id: "ranges", class: "choices", role: "group", "aria-label": "Range" }, rangesOf(s).map((r) => button(ranges[r][0], () => on.range(r), { data: { range: r } }))),
      h("p", { id: "legend" })),
    h("div", { id: "chart" }),
    h("input", { id: "scrub", type: "range", min: 0, max: 0, value: 0, "aria-label": "Point of the chart", disabled: true }),
    h("p", { id: "readout", class: "quiet" }),
    h("dl", { id: "panel-averages" }),
    h("details", { id: "points" }, h("summary", {}, "Points as a table"), h("div", { id: "points-body", tabindex: 0, role: "region", "aria-label": "Points as a table" })))
  $("scrub").addEventListener("input", () => { shown.at = Number($("scrub").value) === shown.prices.length - 1 ? null : shown.prices[$("scrub").value].t; mark() })
  $("chart").addEventListener("pointermove", (e) => { if (shown.drawn) point(shown.drawn.time(e.clientX - $("chart").getBoundingClientRect().left)) })
  $("chart").addEventListener("pointerleave", () => { shown.at = null; mark() })
  $("points").addEventListener("toggle", table)
  new ResizeObserver(draw).observe($("chart"))
}

// load reads the points of the range, and the averages at these points: the first of them needs the points before the range, too.
async function load() {
  const mine = ++turn, { s, range, window } = shown
  const ask = (path, parameters) => get(`${path}?${new URLSearchParams({ symbol: s.symbol, provider: s.provider, ...parameters })}`)
  say(loading)
  try {
    const start = ranges[range][1] ? new Date(Date.now() - ranges[range][1]).toISOString() : ""
    const { prices, currency, next_page_token } = await ask("/prices/history", { order: "desc", limit: most, ...(start && { start }) })
    if (mine !== turn) return
    if (currency) s.currency = currency
    shown.prices = prices.map(({ timestamp, price }) => ({ t: Date.parse(timestamp), v: Number(price), price, timestamp })).reverse()
    shown.cut = Boolean(next_page_token)
    if (shown.prices.length === 0) return say(range === "all" ? "No prices yet." : "No prices in this range.")
    if (window > 1) {
      const before = await ask("/prices/history", { order: "desc", limit: window - 1, end: prices.at(-1).timestamp })
      const first = before.prices.at(-1)?.timestamp ?? prices.at(-1).timestamp
      const { averages } = await ask("/averages/history", { window, start: first, limit: most })
      if (mine !== turn) return
      const last = averages.length ? Date.parse(averages.at(-1).as_of) : 0 // those that came meanwhile stay
      shown.averages = [...averages.map((a) => ({ t: Date.parse(a.as_of), v: Number(a.average), average: a.average })), ...shown.averages.filter((a) => a.t > last)]
    }
    ready()
  } catch (e) {
    if (mine !== turn) return
    if (shown.prices.length) ready() // the averages are away, the prices are here
    say(`${shown.prices.length ? "The averages" : "The prices"} cannot be read: ${e.message}`, true)
  }
}

// say shows a text instead of the chart, if there are no points. While others are loaded, the chart of before stays.
function say(text, bad = false) {
  fill($("readout"), text)
  $("readout").classList.toggle("bad", bad)
  if (shown.prices.length || text === loading && $("chart").firstElementChild?.matches(".chart")) return
  shown.drawn = null
  fill($("chart"), h("p", { class: "quiet" }, text))
  $("scrub").disabled = true
}

function ready() {
  refresh(shown.s)
  $("scrub").disabled = false
  draw()
  table()
}

function draw() {
  if (!shown?.prices.length) return
  shown.drawn = chart($("chart"), shown.prices, shown.averages)
  $("scrub").max = shown.prices.length - 1
  const low = shown.prices.reduce((a, b) => b.v < a.v ? b : a), high = shown.prices.reduce((a, b) => b.v > a.v ? b : a), p = places(shown.s.price ?? low.price)
  const change = percent(shown.prices[0].v, shown.prices.at(-1).v)
  fill($("legend"), h("span", { class: "swatch price-swatch" }), "price ", h("span", { class: "swatch average-swatch" }), `SMA ${shown.window} `,
    h("span", { class: "quiet" }, `${change.text} in ${shown.cut ? `the newest ${count(most)} points` : plural(shown.prices.length, "point")} · low ${rounded(low.price, p)} · high ${rounded(high.price, p)}`))
  mark()
}

// point marks the point nearest to a time.
function point(t) {
  const { prices } = shown
  let low = 0, high = prices.length - 1
  while (low < high) { const mid = (low + high) >> 1; if (prices[mid].t < t) low = mid + 1; else high = mid }
  const i = low > 0 && t - prices[low - 1].t < prices[low].t - t ? low - 1 : low
  shown.at = prices[i].t
  mark()
}

// mark shows the chosen point, which stays the same while new ones come; without one, the newest.
function mark() {
  if (!shown?.drawn) return
  const { prices, averages, at, s, window } = shown
  let i = at === null ? prices.length - 1 : prices.findIndex((p) => p.t >= at)
  if (i < 0) i = prices.length - 1
  const p = prices[i], average = averages.find((a) => a.t === p.t), unit = series.currency(s), places_ = places(p.price)
  shown.drawn.mark(p, average)
  $("scrub").value = i
  const text = `${rounded(p.price, places_)} ${unit}`.trim() + (average ? ` · SMA ${window} ${rounded(average.average, places_)}` : "")
  $("scrub").setAttribute("aria-valuetext", `${series.moment(s, p.timestamp)}: ${text}`)
  fill($("readout"), `${series.moment(s, p.timestamp)} · ${text}`)
  $("readout").classList.remove("bad")
}

function table() {
  if (!$("points")?.open || !shown.prices.length) return
  const averages = new Map(shown.averages.map((a) => [a.t, a.average])), newest = shown.prices.slice(-tabled).reverse()
  fill($("points-body"), h("table", {},
    h("caption", {}, newest.length < shown.prices.length ? `The newest ${count(tabled)} of ${count(shown.prices.length)} points` : "All points of the range"),
    h("thead", {}, h("tr", {}, ["Time", "Price", `SMA ${shown.window}`].map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, newest.map((p) => h("tr", {}, h("th", { scope: "row" }, series.moment(shown.s, p.timestamp)), h("td", {}, p.price), h("td", {}, averages.get(p.t) ?? "–"))))))
}

// refresh shows the newest state of the series, if it is the one in the panel.
export function refresh(s) {
  if (shown?.s !== s) return
  const unit = series.currency(s), basis = series.basis(s), change = basis && percent(Number(basis.price), Number(s.price))
  fill($("panel-price"),
    h("strong", { title: s.price ? `${s.price} ${unit}` : "" }, s.price ? rounded(s.price, places(s.price)) : "–"), " ", h("span", { class: "quiet" }, safe(unit, 12)), " ",
    change && h("span", { class: change.sign > 0 ? "good" : change.sign < 0 ? "bad" : "" }, change.text), " ",
    h("span", { class: "quiet" }, change && ["since ", basis.words, " ", h("span", { class: "nowrap" }, basis.at), " · "], s.as_of ? ["as of ", when(s.as_of)] : "no price yet"),
    series.badges(s, shown.window, true).flatMap(([kind, text, title]) => [" ", h("span", { class: "pill " + kind, title }, text)]))
  fill($("panel-averages"), s.averages.map((a) => h("div", {}, h("dt", {}, `SMA ${a.window}`), h("dd", {}, a.average), h("dd", { class: "quiet" }, a.complete ? "complete" : `${a.points_used} of ${a.window} points`))))
  const last = shown.prices.at(-1), t = Date.parse(s.as_of)
  if (!last || !(t > last.t)) return // or there is no state yet
  shown.prices.push({ t, v: Number(s.price), price: s.price, timestamp: s.as_of })
  const average = s.averages.find((a) => a.window === shown.window && a.complete)
  if (average) shown.averages.push({ t, v: Number(average.average), average: average.average })
  const start = t - ranges[shown.range][1]
  if (ranges[shown.range][1]) while (shown.prices[0].t < start) shown.prices.shift()
  while (shown.averages[0]?.t < shown.prices[0].t) shown.averages.shift()
  draw()
}
