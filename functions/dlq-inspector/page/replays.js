// Replays of many letters: the history of all, and the dialog that plans one, starts it and follows it.
import { call, get, key, pause, post } from "./api.js"
import { $, button, count, exactly, fill, h, plural, readOnly, safe } from "./dom.js"
import { pill } from "./facts.js"
import { describe } from "./state.js"

const total = (r) => Object.values(r.outcomes ?? {}).reduce((a, b) => a + Number(b), 0)
const running = (r) => r.status === "running"
const verbs = { resolved: ["accepted", "would be accepted"], refused: ["refused", "would be refused"], sent: ["sent", "would be sent"], skipped: ["skipped", "would be skipped"] }
const word = (outcome, plan) => verbs[outcome]?.[plan ? 1 : 0] ?? outcome

export const outcomes = (r) => Object.entries(r.outcomes ?? {}).filter(([, n]) => n).map(([o, n]) => `${count(n)} ${word(o, r.dry_run)}`).join(", ") || "nothing yet"

// bar shows the outcomes of the letters, as shares of all that were selected.
function bar(r) {
  const all = Math.max(Number(r.matched), total(r), 1)
  const e = h("div", { class: "verdicts", role: "img", "aria-label": `${outcomes(r)}, of ${count(r.matched)}` })
  for (const [outcome, n] of Object.entries(r.outcomes ?? {})) {
    if (!n) continue
    const part = h("span", { class: outcome })
    part.style.width = `${100 * n / all}%`
    e.append(part)
  }
  return e
}

function timeLeft(r) {
  const seconds = (Date.now() - Date.parse(r.created_at)) / 1000
  const rate = total(r) / Math.max(seconds, 1)
  const left = (Number(r.matched) - total(r)) / rate
  if (!running(r) || !Number.isFinite(left)) return ""
  const text = left < 90 ? `${Math.ceil(left)} s` : left < 5400 ? `${Math.ceil(left / 60)} min` : `${Math.ceil(left / 3600)} h`
  return `${rate < 10 ? rate.toFixed(1) : count(Math.round(rate))} letters per second, about ${text} left`
}

// notes says why letters were refused or skipped, and why a replay is paused or ended early.
function notes(r) {
  const reasons = Object.entries(r.reasons ?? {}).filter(([, n]) => n).sort((a, b) => b[1] - a[1])
  return [
    reasons.length > 0 && h("p", { class: "quiet" }, "Refused or skipped: ", reasons.slice(0, 10).map(([code, n], i) => [i > 0 && ", ", `${count(n)} × `, h("code", {}, safe(code, 200))]).flat()),
    r.trouble && running(r) && h("p", { class: "warning" }, "Paused briefly: ", safe(r.trouble)),
    r.stop_reason && h("p", { class: "bad" }, "Stopped automatically: ", safe(r.stop_reason)),
    r.cancelled_by && h("p", { class: "quiet" }, "Stopped by ", safe(r.cancelled_by, 100)),
  ]
}

const title = (r) => `${r.dry_run ? "Plan" : r.target === "topic" ? "Copies to the topic" : "Replay"} of ${plural(r.matched, "letter")}`
const what = (filter) => { const all = describe(filter); return all.length ? safe(all.join(" · "), 600) : "all open letters" }

// --- the history

let list = []
export const anyRunning = () => list.filter(running).length

export async function load() {
  const answer = await get("/dlq/replays?limit=50")
  list = answer.replays
  $("running").hidden = anyRunning() === 0
  $("running").textContent = `${anyRunning()} running`
  const before = new Map([...$("replays").children].map((e) => [e.dataset.id, e]))
  if ($("replays-view").hidden) return
  const items = list.map((r) => {
    const e = before.get(r.id) ?? h("li", { class: "replay", data: { id: r.id } })
    const text = JSON.stringify(r)
    if (e.dataset.text !== text) { e.dataset.text = text; card(e, r) }
    return e
  })
  const active = document.activeElement
  if (items.some((e, i) => $("replays").children[i] !== e) || items.length !== $("replays").children.length) $("replays").replaceChildren(...items)
  if (active?.isConnected && active !== document.activeElement) active.focus({ preventScroll: true })
  $("no-replays").hidden = list.length > 0
}

function card(e, r) {
  const plan = r.dry_run
  const good = Number(r.outcomes?.resolved ?? 0) + Number(r.outcomes?.sent ?? 0)
  fill(e,
    h("div", { class: "replay-head" }, h("h3", {}, title(r)), pill(r.status), h("span", { class: "quiet" }, exactly(r.created_at), " by ", safe(r.who, 100))),
    h("p", {}, what(r.filter ?? {}), r.reason && [" · ", safe(r.reason, 300)]),
    bar(r), h("p", {}, `${count(total(r))} of ${count(r.matched)}: ${outcomes(r)}. `, h("span", { class: "quiet" }, timeLeft(r))),
    notes(r),
    !readOnly() && h("div", { class: "row-of-buttons" },
      running(r) && button(plan ? "Stop the plan" : "Stop", (ev) => stop(r, ev.target)),
      (r.status === "stopped" || (plan && r.status === "completed" && good > 0)) && button("Plan it again …", () => open(r.filter ?? {}, "", r))))
}

async function stop(r, pressed) {
  pressed.disabled = true
  try { await call("DELETE", "/dlq/replays/" + r.id) } catch (e) { pressed.after(h("span", { class: "bad", role: "alert" }, " " + e.message)) }
  await load()
}

// --- the dialog

const dialog = $("replay-dialog")
let selected = {} // the filter of the letters that the dialog is about
let follows = null // the replay that the dialog follows
let onDone = () => {}
let attempt = "" // idempotency key of the request
export const listen = (done) => { onDone = done }

// open starts with a plan, which asks the function about each letter and changes nothing.
export function open(filter, name, like) {
  selected = filter
  follows = null
  attempt = key()
  $("replay-force").checked = Boolean(like?.force)
  $("replay-what").replaceChildren("Selected: ", name ? safe(name, 400) : what(filter), ". Only open letters are replayed.")
  $("replay-target").value = like?.target ?? "function"
  if (like?.rate_per_second) $("replay-rate").value = like.rate_per_second
  $("replay-progress").replaceChildren(h("p", { class: "quiet" }, "A plan asks the function about each letter. It changes nothing."))
  buttons({})
  dialog.showModal()
}

// buttons shows what can be done now: a replay needs a finished plan in which at least one letter would go through.
function buttons({ plan, busy = false }) {
  const good = plan ? Number(plan.outcomes?.resolved ?? 0) + Number(plan.outcomes?.sent ?? 0) : 0
  $("replay-plan").disabled = busy
  $("replay-go").disabled = busy || !plan || plan.status !== "completed" || good === 0
  $("replay-go").textContent = good > 0 ? `Replay ${plural(plan.matched, "letter")}` : "Replay"
  $("replay-stop").hidden = !busy
  $("replay-plan").classList.toggle("primary", $("replay-go").disabled) // the next step stands out
  $("replay-go").classList.toggle("primary", !$("replay-go").disabled)
  for (const id of ["replay-target", "replay-rate", "replay-force"]) $(id).disabled = busy
}

function progress(r) {
  const good = Number(r.outcomes?.resolved ?? 0) + Number(r.outcomes?.sent ?? 0)
  const hints = []
  if (Number(r.matched) === 0) hints.push(h("p", {}, "No open letter is selected."))
  else if (r.dry_run && r.status === "completed" && good === 0) hints.push(h("p", { class: "bad" }, "No letter would be accepted, so there is nothing to replay. Correct the letters first, one by one, or have the function fixed."))
  else if (r.dry_run && r.status === "completed" && r.outcomes?.refused) hints.push(h("p", { class: "warning" }, `${plural(r.outcomes.refused, "letter")} would be refused again.`))
  if (!r.dry_run && running(r)) hints.push(h("p", { class: "quiet" }, "You can close this dialog: the replay continues, and is listed under Replays."))
  fill($("replay-progress"),
    h("p", {}, h("strong", {}, title(r)), " ", pill(r.status)), bar(r),
    h("p", {}, `${count(total(r))} of ${count(r.matched)}: ${outcomes(r)}. `, h("span", { class: "quiet" }, timeLeft(r))), notes(r), hints)
}

async function start(dryRun) {
  buttons({ busy: true })
  const body = {
    filter: selected, dry_run: dryRun, rate_per_second: Number($("replay-rate").value), target: $("replay-target").value,
    ...($("replay-force").checked && { force: true }),
    ...($("replay-reason").value && { reason: $("replay-reason").value }),
  }
  try {
    const r = await post("/dlq/replays", body, { "Idempotency-Key": attempt })
    attempt = key() // this request is done; the next press makes another
    await follow(r)
  } catch (e) {
    if (e.status) attempt = key() // the server refused. Without an answer, the same request is repeated
    fail(e)
  }
}

const fail = (e) => { $("replay-progress").append(h("p", { class: "bad", role: "alert" }, e.message)); buttons({}) }

async function follow(r) {
  follows = r.id
  progress(r)
  load().catch(() => {})
  while (running(r)) {
    await pause(r.dry_run ? 500 : 1000)
    if (follows !== r.id) return // closed: the list of replays follows it
    try { r = await get("/dlq/replays/" + r.id) } catch (e) {
      if (e.status === 401) return
      if (e.status && e.status !== 429 && e.status < 500) throw e
      await pause(2000) // unreachable for a moment; the replay continues without us
      continue
    }
    if (follows === r.id) progress(r)
  }
  if (follows === r.id) buttons({ plan: r.dry_run ? r : undefined })
  load().catch(() => {})
  if (!r.dry_run) onDone()
}

$("replay-form").addEventListener("submit", (e) => { e.preventDefault(); start(e.submitter !== $("replay-go")) })
$("replay-stop").addEventListener("click", async () => {
  try { if (follows) progress(await call("DELETE", "/dlq/replays/" + follows)) } catch (e) { $("replay-progress").append(h("p", { class: "bad" }, e.message)) }
})
for (const id of ["replay-target", "replay-force"]) $(id).addEventListener("change", () => buttons({})) // these need another plan
$("replay-form").addEventListener("change", () => { attempt = key() }) // any change makes another request
$("replay-close").addEventListener("click", () => dialog.close())
dialog.addEventListener("close", () => { follows = null; $("replay-reason").value = ""; onDone() })

export function forget() {
  list = []
  follows = null
  if (dialog.open) dialog.close()
  $("replays").replaceChildren()
  $("running").hidden = true
}
