// The live page. It sends few requests: a symbol's longer averages are fetched only when its newest point has changed, nothing is
// fetched while no tab is visible, and one of several tabs fetches for all.

const symbols = ["AAPL", "AMZN", "GOOG", "IBM", "MSFT"], windows = [5, 20, 50], provider = "yfinance"
const period = 5000 // ms; the demo's jobs fetch every 5 s
const rows = document.getElementById("rows"), state = document.getElementById("state"), cells = {}

for (const symbol of symbols) {
  const tr = rows.insertRow(), head = document.createElement("th")
  head.scope = "row"
  head.textContent = symbol
  tr.append(head)
  for (const column of [...windows, "as_of"]) (cells[symbol + column] = tr.insertCell()).textContent = "–"
}

function put(cell, text, title = "", part = "") {
  if (cell.dataset.text === text + part) return
  const first = cell.dataset.text === undefined
  cell.dataset.text = text + part
  cell.textContent = text
  cell.title = title
  if (part) {
    const s = document.createElement("span")
    s.className = "part"
    s.textContent = ` (${part})`
    cell.append(s)
  }
  if (first) return
  cell.classList.add("moved")
  setTimeout(() => cell.classList.remove("moved"), 150)
}

function show({ symbol, window, digits, used, complete, asOf }) {
  put(cells[symbol + window], digits.replace(/^(\d+\.\d{4})\d+$/, "$1…"), digits, complete ? "" : `${used} of ${window}`)
  if (window === windows[0]) put(cells[symbol + "as_of"], asOf.replace("T", " ").replace(/(\.\d+)?Z$/, ""), asOf)
}

const say = (text, bad = false) => { state.textContent = text; state.className = bad ? "bad" : "" }

// average fetches one average; null before the first point. Averages are exact decimals, so their digits are taken from the response
// text: a JavaScript number could not hold them.
async function average(symbol, window) {
  const r = await fetch(`/averages/latest?${new URLSearchParams({ symbol, provider, window })}`)
  if (r.status === 404) return null
  if (!r.ok) throw Object.assign(new Error(`status ${r.status}`), { after: 1000 * Number(r.headers.get("Retry-After")) })
  const text = await r.text(), v = JSON.parse(text)
  return { symbol, window, digits: /"average":(-?[0-9.]+)/.exec(text)?.[1] ?? "–", used: v.points_used, complete: v.complete, asOf: v.as_of }
}

const channel = new BroadcastChannel("averages")
channel.onmessage = ({ data }) => { data.averages.forEach(show); say(data.text, data.bad) }

function tell(averages, text, bad) {
  averages.forEach(show)
  say(text, bad)
  channel.postMessage({ averages, text, bad })
}

const seen = {} // symbol -> its newest point and average at the last fetch of its longer averages
let whole = 0 // the last time that all were fetched: a late point may change only the longer averages

async function refresh() {
  const all = Date.now() - whole > 60000
  if (all) whole = Date.now()
  const found = await Promise.all(symbols.map(async (symbol) => {
    const first = await average(symbol, windows[0])
    if (!first || (!all && seen[symbol] === first.asOf + first.digits)) return [first]
    const rest = await Promise.all(windows.slice(1).map((w) => average(symbol, w)))
    seen[symbol] = first.asOf + first.digits
    return [first, ...rest]
  }))
  tell(found.flat().filter(Boolean), `Updated ${new Date().toISOString().slice(11, 19)} UTC.`)
}

// lead fetches for all tabs while this one is visible.
async function lead() {
  while (!document.hidden) {
    let wait = period
    try { await refresh() } catch (e) {
      tell([], `Not reachable right now (${e.message}); trying again.`, true)
      wait = Math.max(wait, e.after || 0)
    }
    await new Promise((resume) => setTimeout(resume, wait))
  }
}

let asked = false // whether this tab waits for the lead or has it
async function start() {
  if (document.hidden || asked) return
  asked = true
  await (navigator.locks ? navigator.locks.request("averages", lead) : lead()) // plain HTTP from another machine has no locks
  asked = false
  start()
}
document.addEventListener("visibilitychange", start)
start()
