// All series that are polled, followed or stored, and what can be said about them. No document, no requests.

export const all = new Map() // key -> series

export const keyOf = (s) => `${s.provider}:${s.symbol}`

const lengths = { "1m": 60, "5m": 300, "15m": 900, "1h": 3600, "1d": 86400 } // seconds

// barsOf returns the interval of a series of bars, undefined for quotes.
export const barsOf = (provider) => Object.keys(lengths).find((i) => provider.endsWith("-" + i) && provider.length > i.length + 1)

const kept = 90 // points of the small chart

function find(symbol, provider) {
  const key = keyOf({ symbol, provider })
  if (!all.has(key)) all.set(key, { key, symbol, provider, bars: barsOf(provider), averages: [], points: null, plans: [] })
  return all.get(key)
}

// update takes the state of a series from the list or the stream, and says whether the price is a new one. An older state, from a
// list that was read before the stream sent a newer one, changes nothing.
export function update({ symbol, provider, price, as_of, averages, adjusting }) {
  const s = find(symbol, provider)
  if (s.as_of && Date.parse(as_of) < Date.parse(s.as_of)) return false
  const moved = s.price !== undefined && (s.price !== price || s.as_of !== as_of)
  Object.assign(s, { price, as_of, averages })
  if (adjusting !== undefined) s.adjusting = adjusting
  const last = s.points?.at(-1)
  if (last && last.timestamp === as_of) last.price = price
  else if (last) s.points = [...s.points, { timestamp: as_of, price }].slice(-kept)
  return moved
}

// list takes a whole list. adjusting is absent where it is false.
export const list = (states) => states.forEach((s) => update({ ...s, adjusting: s.adjusting === true }))

// plan takes the polling jobs and backfills: what they name has a row even before its first price. A job of provider auto names no
// series.
export function plan({ jobs, backfills }) {
  for (const s of all.values()) s.plans = []
  for (const j of jobs) {
    if (j.config.provider === "auto") continue
    for (const symbol of j.config.symbols) find(symbol, j.config.provider).plans.push({ every: j.config.interval, paused: j.status === "paused" })
  }
  for (const b of backfills) {
    for (const symbol of b.config.symbols) find(symbol, `${b.config.provider}-${b.config.interval}`).plans.push({ every: lengths[b.config.interval], paused: b.status === "paused", ended: b.config.end !== null })
  }
}

// kind describes a series in words.
export const kind = (s) => s.bars === "1d" ? "daily closes" : s.bars ? `closes of ${s.bars} bars` : "quotes"

const words = (seconds) => seconds < 120 ? `${seconds} s` : seconds < 7200 ? `${Math.round(seconds / 60)} min` : seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`

// badges returns what is not as it should be, as [class, text, explanation]. planned says whether jobs and backfills are known.
export function badges(s, window, planned, now = Date.now()) {
  const out = []
  const add = (kind, text, title) => out.push([kind, text, title])
  const running = s.plans.filter((p) => !p.paused && !p.ended)
  if (!s.price) add("warn", "no price yet", "A job or a backfill names it, but no price has been stored.")
  if (s.price && running.length) {
    const every = Math.min(...running.map((p) => p.every)), age = Math.round((now - Date.parse(s.as_of)) / 1000)
    const most = s.bars ? Math.max(3 * every, 4 * 86400) : 3 * every + 30 // markets close for up to four days
    if (age > most) add("bad", "stale", `The newest price is ${words(age)} old, although ${s.bars ? "bars are followed" : `it is polled every ${words(every)}`}.`)
  }
  const average = s.averages.find((a) => a.window === window)
  if (average && !average.complete) add("warn", `${average.points_used} of ${window}`, `Incomplete: the average has ${average.points_used} points, and needs ${window}.`)
  if (s.adjusting) add("warn", "adjusting", "After a split, the series is being fetched again: closes before and after it may be in different shares.")
  if (planned && running.length === 0 && s.plans.some((p) => p.paused)) add("", "paused", "All its jobs and backfills are paused.")
  return out
}

export const needsAttention = (badges) => badges.some(([kind]) => kind)

// moment writes the time of a point: the start of a daily bar is its day.
export const moment = (s, iso) => s.bars === "1d" ? iso.slice(0, 10) : iso.replace("T", " ").replace(/(\.\d+)?Z$/, " UTC")

// basis returns the price that a change is counted from, with words for it. Bars change from the close before; quotes from the newest
// daily close of the same provider, or from the oldest point of the small chart.
export function basis(s) {
  if (!s.price) return null
  const before = s.points?.at(-2), daily = all.get(keyOf({ symbol: s.symbol, provider: s.provider + "-1d" }))
  if (s.bars) return before && { price: before.price, words: "the close before, of", at: moment(s, before.timestamp) }
  if (daily?.price && !daily.adjusting) return { price: daily.price, words: "the daily close of", at: moment(daily, daily.as_of) }
  return s.points?.length > 1 ? { price: s.points[0].price, words: "the price of", at: moment(s, s.points[0].timestamp) } : null
}

// currency is that of the quotes, whichever history said it.
export function currency(s) {
  const quotes = s.bars && all.get(keyOf({ symbol: s.symbol, provider: s.provider.slice(0, -s.bars.length - 1) }))
  return s.currency ?? quotes?.currency ?? ""
}

// setHistory takes the newest points, newest first.
export function setHistory(s, { prices, currency }) {
  s.points = prices.slice(0, kept).reverse().map(({ timestamp, price }) => ({ timestamp, price }))
  if (currency) s.currency = currency
  const last = s.points.at(-1)
  if (last && s.as_of && Date.parse(last.timestamp) < Date.parse(s.as_of)) s.points = [...s.points, { timestamp: s.as_of, price: s.price }].slice(-kept)
}

export const history = (s) => `/prices/history?${new URLSearchParams({ symbol: s.symbol, provider: s.provider, order: "desc", limit: kept })}`

export const sorted = () => [...all.values()].sort((a, b) => a.symbol < b.symbol ? -1 : a.symbol > b.symbol ? 1 : a.provider < b.provider ? -1 : 1)

// matches says whether a series is what the filter asks for.
export function matches(s, { q, kind, attention }, window, planned) {
  const text = q.trim().toLowerCase()
  return (!text || s.symbol.toLowerCase().includes(text) || s.provider.includes(text)) && (kind === "all" || (kind === "bars") === Boolean(s.bars)) &&
    (!attention || needsAttention(badges(s, window, planned)))
}

// windows lists the stored windows of all series.
export const windows = () => [...new Set([...all.values()].flatMap((s) => s.averages.map((a) => a.window)))].sort((a, b) => a - b)
