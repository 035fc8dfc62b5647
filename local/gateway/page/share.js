// One of several tabs fetches for all: a browser has six connections to a server, and each stream holds one.

const channel = new BroadcastChannel("market-data")
let receive = () => {}

// listen calls f with what this tab or another one has fetched.
export function listen(f) {
  receive = f
  channel.onmessage = ({ data }) => f(data)
}

// tell passes something on to all tabs.
export function tell(message) {
  receive(message)
  channel.postMessage(message)
}

let asked = false // whether this tab waits for the lead or has it

// lead calls work whenever this tab leads, with a function that says whether it still does; a hidden tab gives the lead away.
export function lead(work) {
  const go = () => work(() => !document.hidden)
  async function start() {
    if (document.hidden || asked) return
    asked = true
    await (navigator.locks ? navigator.locks.request("market-data", go) : go()) // plain HTTP from another machine has no locks
    asked = false
    start()
  }
  document.addEventListener("visibilitychange", start)
  start()
}

export const pause = (ms) => new Promise((resume) => setTimeout(resume, ms))

// hidden resolves once the tab is hidden.
export const hidden = () => new Promise((resume) => document.addEventListener("visibilitychange", () => { if (document.hidden) resume() }))
