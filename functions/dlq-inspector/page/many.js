// One action on the letters that were selected by hand, one after the other.
import { pause, post } from "./api.js"
import { $, count, h, plural } from "./dom.js"

const dialog = $("many-dialog")
let letters = []
let action = "replay"
let stopped = true
let onDone = () => {}
export const listen = (done) => { onDone = done }

export function open(what, chosen) {
  action = what
  letters = chosen
  stopped = true
  $("many-title").textContent = what === "replay" ? "Replay selected letters" : "Discard selected letters"
  $("many-what").textContent = what === "replay"
    ? `${plural(chosen.length, "letter")} will be delivered again to the function that refused ${chosen.length === 1 ? "it" : "them"}, unchanged.`
    : `${plural(chosen.length, "letter")} will be set aside. Each can be restored.`
  $("many-progress").replaceChildren()
  $("many-bar").hidden = true
  $("many-reason").value = ""
  buttons(false)
  dialog.showModal()
}

function buttons(busy, over = false) {
  $("many-go").disabled = busy || over
  $("many-go").textContent = action === "replay" ? "Replay" : "Discard"
  $("many-close").textContent = busy ? "Stop" : "Close"
}

async function one(letter, body) {
  for (;;) {
    try {
      return (await post(`/dlq/messages/${letter.id}/${action}`, body)).status
    } catch (e) {
      if (e.status !== 429 || stopped) throw e
      await pause(1000 * (e.retryAfter || 5)) // by then the limit has room again
    }
  }
}

async function run() {
  stopped = false
  buttons(true)
  const reason = $("many-reason").value
  const done = {}
  const reasons = []
  const bar = $("many-bar")
  bar.hidden = false
  bar.max = letters.length
  bar.value = 0
  for (const letter of letters) {
    if (stopped) break
    let outcome
    try { outcome = await one(letter, reason ? { reason } : {}) } catch (e) {
      if (e.status === 401) return
      outcome = "failed"
      reasons.push(`…${letter.id.slice(-6)}: ${e.message}`)
      if (!e.status || e.status >= 500) stopped = true // the cause is not this letter: the others would fail, too
    }
    if (action === "replay" && outcome === "open") outcome = "refused"
    done[outcome] = (done[outcome] ?? 0) + 1
    bar.value++
    show(done, reasons)
  }
  const left = letters.length - bar.value
  show(done, reasons, left ? `${plural(left, "letter")} left unchanged.` : "Done.")
  stopped = true
  buttons(false, true)
  onDone()
}

function show(done, reasons, end) {
  const text = Object.entries(done).map(([o, n]) => `${count(n)} ${o}`).join(", ")
  $("many-progress").replaceChildren(h("p", {}, `${text}. ${end ?? ""}`), ...(reasons.length ? [h("ul", { class: "bad" }, reasons.slice(0, 20).map((r) => h("li", {}, r)))] : []))
}

$("many-form").addEventListener("submit", (e) => { e.preventDefault(); run() })
$("many-close").addEventListener("click", () => { if (stopped) dialog.close(); else stopped = true })
dialog.addEventListener("cancel", (e) => { if (!stopped) { e.preventDefault(); stopped = true } })

export function forget() {
  stopped = true
  if (dialog.open) dialog.close()
}
