// The address holds what is shown, so that links can be shared and the back button works.

const kinds = ["all", "quotes", "bars"]

let listener = () => {}
export let state = read(location.search)

// read returns the state of an address.
export function read(search) {
  const p = new URLSearchParams(search)
  const kind = p.get("kind"), window = Number(p.get("window"))
  return {
    q: p.get("q") ?? "", kind: kinds.includes(kind) ? kind : "all", attention: p.get("attention") === "1",
    window: Number.isInteger(window) && window > 0 ? window : 0, series: p.get("series") ?? "", range: p.get("range") ?? "",
  }
}

// address returns the link of a state: what is as usual is left out.
export function address(s) {
  const p = new URLSearchParams()
  if (s.q) p.set("q", s.q)
  if (s.kind !== "all") p.set("kind", s.kind)
  if (s.attention) p.set("attention", "1")
  if (s.window) p.set("window", s.window)
  if (s.series) p.set("series", s.series)
  if (s.series && s.range) p.set("range", s.range)
  const query = p.toString()
  return "/" + (query ? "?" + query : "")
}

export function go(next, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", address(next))
  const before = state
  state = read(location.search)
  listener(state, before)
}

export function onChange(f) {
  listener = f
  addEventListener("popstate", () => {
    const before = state
    state = read(location.search)
    f(state, before)
  })
}
