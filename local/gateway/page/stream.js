// The streams of quotes: the newest price and averages of each series as they change.
import { parse } from "./api.js"
import { barsOf } from "./series.js"

const most = 2 // streams, of a hundred symbols each; what has none is refreshed with the list
const symbols = 100

const open = new Map() // address -> EventSource

// addresses returns the streams of the series with quotes. Bars change once a day, or once a minute: they come with the list.
function addresses(all) {
  const providers = new Map()
  for (const s of all) {
    if (barsOf(s.provider) || !s.price) continue
    if (!providers.has(s.provider)) providers.set(s.provider, [])
    providers.get(s.provider).push(s.symbol)
  }
  const out = []
  for (const [provider, list] of providers) {
    list.sort()
    for (let i = 0; i < list.length; i += symbols) out.push(`/averages/stream?${new URLSearchParams({ symbols: list.slice(i, i + symbols).join(","), provider })}`)
  }
  return out.slice(0, most)
}

// keep opens the streams of these series and closes others. A stream that breaks off opens itself again, unless the answer was an error:
// then the next call of keep does.
export function keep(all, changed) {
  const wanted = addresses(all)
  for (const [address, source] of open) if (!wanted.includes(address) || source.readyState === EventSource.CLOSED) { source.close(); open.delete(address) }
  for (const address of wanted) {
    if (open.has(address)) continue
    const source = new EventSource(address)
    source.addEventListener("series", (e) => changed(parse(e.data)))
    open.set(address, source)
  }
}

export function close() {
  for (const source of open.values()) source.close()
  open.clear()
}
