// The live page: what is fetched when, the address, and the keyboard.
import { all, get } from "./api.js"
import { $, fill, h, refreshTimes } from "./dom.js"
import * as health from "./health.js"
import * as panel from "./panel.js"
import * as series from "./series.js"
import { hidden, lead, listen, pause, tell } from "./share.js"
import { go, onChange, read, state } from "./state.js"
import * as stream from "./stream.js"
import * as table from "./table.js"

const every = { health: 5000, list: 10000, plans: 60000 } // ms

let planned = false // whether jobs and backfills are known
let listed = false // whether the list of series is
let loaded = false // whether both were asked for

// --- what is shown

// chosenWindow is that of the address, or else the longest that is stored.
const chosenWindow = () => { const known = series.windows(); return known.includes(state.window) ? state.window : known.at(-1) ?? 0 }

function show({ more = false } = {}) {
  if (!loaded) return
  if ($("q") !== document.activeElement) $("q").value = state.q
  for (const b of $("kinds").children) b.setAttribute("aria-pressed", String(b.dataset.kind === state.kind))
  $("attention").checked = state.attention
  windows()
  table.show(state, { window: chosenWindow(), planned, complete: listed && planned, more })
  showPanel()
}

// update shows what has changed in place.
function update() {
  windows()
  table.refresh({ window: chosenWindow(), planned })
  series.all.forEach(panel.refresh)
}

function windows() {
  const known = series.windows(), text = known.join()
  if ($("window").dataset.known !== text) {
    $("window").dataset.known = text
    fill($("window"), known.map((w) => h("option", { value: w }, `SMA ${w}`)))
  }
  $("window").value = chosenWindow()
}

function showPanel({ focus = false } = {}) {
  const s = series.all.get(state.series)
  $("columns").classList.toggle("with-panel", Boolean(s))
  document.title = s ? `${s.symbol} · Market data` : "Market data"
  table.mark(s?.key)
  if (!s) return panel.close()
  panel.open(s, state.range, chosenWindow(), { focus })
  want(s) // on a phone its row is not in view
}

onChange((next, before) => {
  const same = ["q", "kind", "attention", "window"].every((n) => next[n] === before[n])
  if (same) showPanel({ focus: next.series !== before.series && document.activeElement !== document.body }) // not when the page opens it
  else show()
})

function closePanel() {
  const key = state.series
  go({ ...state, series: "", range: "" })
  table.focus(key)
}
panel.listen({ range: (range) => go({ ...state, range }, { replace: true }), close: closePanel })

// --- what comes in, from this tab or the one that leads

listen(({ report, states, plans, state: one }) => {
  if (report !== undefined) { health.show(report); pump() }
  if (plans) { series.plan(plans); planned = true }
  if (states) { series.list(states); listed = true }
  if (loaded && (plans || states)) {
    if ($("table").hidden) show() // nothing there can be moved
    else update()
  }
  if (one) {
    const moved = series.update(one), s = series.all.get(series.keyOf(one))
    table.draw(s, { moved })
    panel.refresh(s)
  }
  if (states || one) fresh()
})

function fresh() { $("fresh").textContent = `Updated ${new Date().toISOString().slice(11, 19)} UTC` }

const readHealth = async () => { try { return await get("/page/health") } catch { return null } }
const readList = () => all("/averages/series", "series")
const readPlans = async () => {
  const [jobs, backfills] = await Promise.all([all("/prices/poll", "jobs"), all("/prices/backfill", "backfills")])
  return { jobs, backfills }
}

// The first load is each tab's own. A function that is away leaves its part out.
async function load() {
  health.show(await readHealth())
  const part = async (name, read, take) => { if (!health.away(name)) try { take(await read()) } catch { /* the next refresh tries again */ } }
  await Promise.all([
    part("compute-ma", readList, (states) => { series.list(states); listed = true; fresh() }),
    part("poll", readPlans, (plans) => { series.plan(plans); planned = true }),
  ])
  loaded = true
  if (!state.series && matchMedia("(min-width: 100rem)").matches && series.all.size) { // there is room for both
    show()
    if (table.first()) go({ ...state, series: table.first() }, { replace: true })
  } else show()
}

// The tab that leads refreshes for all. What is asleep stays asleep: nothing changes meanwhile.
async function refresh(leading) {
  const next = { list: listed ? Date.now() + every.list : 0, plans: planned ? Date.now() + every.plans : 0 }
  let tick = Date.now()
  hidden().then(stream.close)
  while (leading()) {
    tell({ report: await readHealth() })
    const idle = (name) => health.away(name) || health.asleep(name)
    const due = (part, name) => Date.now() >= next[part] && !idle(name)
    const take = async (part, read) => {
      next[part] = Date.now() + every[part]
      try { tell(await read()) } catch (e) { next[part] += 1000 * (e.retryAfter ?? 0) }
    }
    if (due("list", "compute-ma")) await take("list", async () => ({ states: await readList() }))
    if (due("plans", "poll")) await take("plans", async () => ({ plans: await readPlans() }))
    if (idle("compute-ma")) stream.close()
    else if (leading()) stream.keep(series.all.values(), (one) => tell({ state: one }))
    tick = Math.max(tick + every.health, Date.now() + 1000)
    await pause(tick - Date.now())
  }
  stream.close()
}

// --- small charts: of the rows that come into view, a few at a time

const wanted = new Set()
let running = 0

function want(s) {
  if (s.points) return
  wanted.add(s)
  pump()
}
table.listen(want)

function pump() {
  while (running < 3 && !health.away("get-latest") && !document.hidden) {
    const s = [...wanted].find((s) => s.price)
    if (!s) return
    wanted.delete(s)
    running++
    get(series.history(s)).then((answer) => {
      series.setHistory(s, answer)
      for (const other of series.all.values()) if (other.symbol === s.symbol) table.draw(other) // the currency and the change of others may follow
      panel.refresh(s)
    }).catch((e) => {
      if (e.status >= 400 && e.status < 500 && e.status !== 429) s.points = [] // it would be refused again
      else setTimeout(() => { wanted.add(s); pump() }, 5000)
    }).finally(() => { running--; pump() })
  }
}

// --- controls

$("filter").addEventListener("submit", (e) => e.preventDefault())
$("q").addEventListener("input", () => go({ ...state, q: $("q").value }, { replace: true }))
$("kinds").addEventListener("click", (e) => { const kind = e.target.dataset.kind; if (kind) go({ ...state, kind }) })
$("attention").addEventListener("change", () => go({ ...state, attention: $("attention").checked }))
$("window").addEventListener("change", () => go({ ...state, window: Number($("window").value) }))
$("news").addEventListener("click", () => { show(); $("table").querySelector("a")?.focus() })
$("more").addEventListener("click", () => show({ more: true }))
$("origin").textContent = location.origin

// A plain click on a link within the page changes the view without reloading the page.
document.addEventListener("click", (e) => {
  const a = e.target.closest("a[data-internal]")
  if (!a || e.defaultPrevented || e.button !== 0 || e.ctrlKey || e.metaKey || e.shiftKey || e.altKey) return
  e.preventDefault()
  go(read(a.search))
})
document.addEventListener("keydown", (e) => {
  if (e.key !== "Escape" || !state.series || e.target === $("q") && $("q").value) return // in the search field it clears the text first
  closePanel()
})

setInterval(() => { if (!document.hidden && loaded) { refreshTimes(); update() } }, 5000) // what was fresh becomes stale
load().then(() => lead(refresh))
