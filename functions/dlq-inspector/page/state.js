// The address holds what is shown, so that links can be shared and the back button works.

export const filterNames = ["status", "fingerprint", "symbol", "topic", "same_key_as", "q", "since", "until"]

let listener = () => {}
export let state = read(location.search)

// read returns the state of an address.
export function read(search) {
  const p = new URLSearchParams(search)
  const filter = Object.fromEntries(filterNames.filter((n) => p.get(n)).map((n) => [n, p.get(n)]))
  const letter = p.get("letter") ?? ""
  const view = p.get("view") ?? (letter || Object.keys(filter).length ? "letters" : "causes")
  return { view: ["causes", "letters", "replays"].includes(view) ? view : "causes", filter, letter, work: p.get("work") ?? "" }
}

// address returns the link of a state. Without a status, letters are the open ones; "all" is any. work is the bulk work whose dialog is
// open.
export function address({ view = "causes", filter = {}, letter = "", work = "" }) {
  const p = new URLSearchParams()
  if (view !== "causes") p.set("view", view)
  if (view === "letters") for (const n of filterNames) if (filter[n]) p.set(n, filter[n])
  if (view === "letters" && letter) p.set("letter", letter)
  if (work) p.set("work", work)
  const query = p.toString()
  return "/dlq" + (query ? "?" + query : "")
}

// note writes what is shown already into the address.
export function note(next, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", address(next))
  state = read(location.search)
}

export function go(next, options) {
  note(next, options)
  listener(state)
}

export function onChange(f) {
  listener = f
  addEventListener("popstate", () => { state = read(location.search); f(state) })
}

// query makes the parameters of a list request.
export function query(filter, more = {}) {
  const p = new URLSearchParams(more)
  for (const n of filterNames) if (filter[n] && n !== "status") p.set(n, filter[n])
  const status = filter.status ?? "open"
  if (status !== "all") p.set("status", status)
  return p
}

// selection is a filter as bulk work takes it: without a status, because it is for open letters only.
export const selection = (filter) => Object.fromEntries(Object.entries(filter).filter(([n, v]) => v && n !== "status"))

export function describe(filter) {
  const words = { fingerprint: "cause", same_key_as: "key of the letter", q: "text", since: "from", until: "before" }
  return Object.entries(selection(filter)).map(([n, v]) => `${words[n] ?? n} ${v}`)
}
