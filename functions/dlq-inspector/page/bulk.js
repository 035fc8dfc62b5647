// The dialog of bulk work: it plans a replay or a discard of many letters, starts it and follows it. The address names the work, so that a
// reload, a link and the back button show it again.
import { call, get, key, pause, post } from "./api.js"
import { $, fill, h, plural, safe, when } from "./dom.js"
import { pill } from "./facts.js"
import { bar, good, legend, progress, running, selected, title } from "./outcomes.js"
import { readOnly } from "./role.js"
import { note, state } from "./state.js"
import { details } from "./verdicts.js"

const dialog = $("bulk-dialog")
const planLife = 3600e3 // milliseconds: letters change, so an older plan says little

let action = "replay"
let letters = {} // { ids } or { filter }
let work = null // what the dialog follows: the newest answer about it
let changed = false // the settings are others than those of the work
let attempt = "" // idempotency key of the request
let turn = 0 // of following: another dialog or other work ends it
let onDone = () => {}
export const listen = (done) => { onDone = done }

const discards = () => action === "discard"

// open shows the form for letters: { ids } or { filter }. like is the work that the settings are from.
export function open(what, chosen, { name = selected({ selection: chosen.ids ? "ids" : "filter", matched: chosen.ids?.length, ...chosen }), like = {} } = {}) {
  action = what
  letters = chosen
  work = null
  changed = false
  attempt = key()
  turn++
  $("bulk-title").textContent = discards() ? "Discard letters" : "Replay letters"
  fill($("bulk-what"), "Selected: ", name, ". ", discards() ? "Only open letters are discarded; each can be restored." : "Only open letters are replayed.")
  for (const e of dialog.querySelectorAll(".replay-only")) e.hidden = discards()
  $("bulk-target").value = like.target ?? "function"
  $("bulk-rate").value = discards() ? 200 : like.rate_per_second ?? 200
  $("bulk-transform").value = like.transform ?? ""
  $("bulk-force").checked = Boolean(like.force)
  $("bulk-reason").value = like.reason ?? ""
  $("bulk-reason").required = discards()
  $("bulk-reason").placeholder = `For the audit trail${discards() ? "" : " (optional)"}`
  $("bulk-progress").replaceChildren(h("p", { class: "quiet" }, `A plan ${discards() ? "looks at each letter" : "asks the function about each letter"}. It changes nothing.`))
  for (const id of ["bulk-legend", "bulk-details"]) $(id).replaceChildren()
  wrong("")
  buttons()
  if (!dialog.open) dialog.showModal()
}

// show opens the work that the address names, and closes the dialog if it names none.
export async function show(id) {
  if (!id) dialog.close()
  if (!id || work?.id === id) return
  const w = await get("/dlq/replays/" + encodeURIComponent(id))
  if (state.work !== id) return
  const { ids, ...filter } = w.filter
  open(w.action, ids ? { ids } : { filter }, { like: w })
  await follow(w)
}

const planned = () => work?.dry_run && work.status === "completed" && !changed && good(work) > 0 && Date.now() - Date.parse(work.created_at) < planLife

// buttons shows what can be done now: the work needs a finished plan by which it would settle a letter.
function buttons(busy = Boolean(work) && running(work)) {
  const ready = !busy && planned()
  const verb = discards() ? "Discard" : "Replay"
  $("bulk-go").textContent = ready ? `${verb} ${plural(work.matched - work.outcomes.skipped, "letter")}` : verb
  $("bulk-go").disabled = !ready
  $("bulk-plan").disabled = busy
  $("bulk-stop").hidden = readOnly() || !work || !running(work)
  $("bulk-plan").hidden = $("bulk-go").hidden = readOnly()
  $("bulk-go").classList.toggle("primary", ready) // the next step stands out
  $("bulk-plan").classList.toggle("primary", !ready)
  $("bulk-settings").disabled = busy || readOnly()
  if ($("bulk-settings").disabled) $("bulk-body").tabIndex = 0 // the keyboard scrolls it, although nothing in it takes the focus
  else $("bulk-body").removeAttribute("tabindex")
  $("bulk-transform").disabled = $("bulk-target").value === "topic" // which gets exact copies
  if (dialog.open && [document.body, dialog].includes(document.activeElement)) [$("bulk-stop"), $("bulk-go"), $("bulk-plan"), $("bulk-close")].find((b) => !b.hidden && !b.disabled).focus()
}

function render(w) {
  work = w
  const hints = []
  if (w.matched === 0) hints.push(h("p", {}, "No open letter is selected."))
  else if (w.dry_run && w.status === "completed" && good(w) === 0) hints.push(h("p", { class: "bad" }, discards() ? "No letter would be discarded." : "No letter would be accepted, so there is nothing to replay. Correct the letters first, with a transform or one by one, or have the function fixed."))
  else if (w.dry_run && w.outcomes.refused && !running(w)) hints.push(h("p", { class: "warning" }, `${plural(w.outcomes.refused, "letter")} would be refused again.`))
  if (!w.dry_run && running(w)) hints.push(h("p", { class: "quiet" }, "You can close this dialog: the work continues, and is listed under Bulk work."))
  fill($("bulk-progress"), h("p", { class: "work-head" }, h("strong", {}, title(w)), pill(w.status), h("span", { class: "quiet" }, when(w.created_at))), bar(w), progress(w), hints)
  fill($("bulk-legend"), legend(w))
  buttons()
}

// wrong shows what is wrong with the transform, at its field.
function wrong(text) {
  $("transform-error").textContent = text
  $("bulk-transform").setAttribute("aria-invalid", String(Boolean(text)))
  if (text) $("bulk-transform").focus()
}

function fail(e) {
  buttons(false)
  if (e.status === 400 && e.message.startsWith("transform: ")) wrong(e.message.slice("transform: ".length))
  else fill($("bulk-progress"), h("p", { class: "bad", role: "alert" }, safe(e.message)))
}

async function start(plan) {
  const transform = !discards() && $("bulk-target").value === "function" && $("bulk-transform").value.trim()
  const body = {
    ...letters, dry_run: plan,
    ...(!discards() && { rate_per_second: Number($("bulk-rate").value), target: $("bulk-target").value }),
    ...(transform && { transform }),
    ...(!discards() && $("bulk-force").checked && { force: true }),
    ...($("bulk-reason").value && { reason: $("bulk-reason").value }),
  }
  wrong("")
  for (const id of ["bulk-legend", "bulk-details"]) $(id).replaceChildren()
  buttons(true)
  const mine = ++turn
  try {
    const w = await post(discards() ? "/dlq/discards" : "/dlq/replays", body, { "Idempotency-Key": attempt })
    attempt = key() // this request is done; the next press makes another
    if (mine !== turn) return
    note({ ...state, work: w.id }, { replace: Boolean(state.work) })
    await follow(w)
  } catch (e) {
    if (e.status) attempt = key() // the server refused. Without an answer, the same request is repeated
    if (mine === turn) fail(e)
  }
}

async function follow(w) {
  const mine = ++turn
  changed = false
  render(w)
  onDone()
  while (running(w)) {
    await pause(w.dry_run ? 500 : 1000)
    if (mine !== turn) return
    try { w = await get("/dlq/replays/" + w.id) } catch (e) {
      if (e.status === 401) return
      if (e.status && e.status !== 429 && e.status < 500) throw e
      await pause(2000) // unreachable for a moment; the work continues without us
      continue
    }
    if (mine === turn) render(w)
  }
  if (mine !== turn) return
  fill($("bulk-details"), details(w))
  onDone()
}

function leave() {
  dialog.close()
  if (state.work) note({ ...state, work: "" })
}

$("bulk-form").addEventListener("submit", (e) => { e.preventDefault(); start(e.submitter !== $("bulk-go")) })
$("bulk-stop").addEventListener("click", async () => {
  try { render(await call("DELETE", "/dlq/replays/" + work.id)) } catch (e) { $("bulk-progress").append(h("p", { class: "bad", role: "alert" }, e.message)) }
})
for (const id of ["bulk-target", "bulk-force", "bulk-transform"]) $(id).addEventListener("input", () => { changed = true; buttons() }) // these need another plan
$("bulk-form").addEventListener("input", () => { attempt = key() }) // any change makes another request
$("bulk-close").addEventListener("click", leave)
dialog.addEventListener("cancel", (e) => { e.preventDefault(); leave() })
dialog.addEventListener("close", () => {
  work = null
  turn++
  onDone()
})

export function forget() {
  if (dialog.open) dialog.close()
}
