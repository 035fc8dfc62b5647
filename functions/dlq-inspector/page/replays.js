// The history of bulk work: replays and discards, with their plans.
import { call, get } from "./api.js"
import { $, button, exactly, fill, h, safe } from "./dom.js"
import { pill } from "./facts.js"
import { bar, progress, running, selected, title } from "./outcomes.js"
import { readOnly } from "./role.js"
import { address } from "./state.js"

let list = []
export const anyRunning = () => list.filter(running).length

export async function load() {
  const answer = await get("/dlq/replays?limit=50")
  list = answer.replays
  $("running").hidden = anyRunning() === 0
  $("running").textContent = `${anyRunning()} running`
  const before = new Map([...$("replays").children].map((e) => [e.dataset.id, e]))
  if ($("replays-view").hidden) return
  const items = list.map((w) => {
    const e = before.get(w.id) ?? h("li", { class: "replay", data: { id: w.id } })
    const text = JSON.stringify(w)
    if (e.dataset.text === text) return e
    e.dataset.text = text
    const focused = [...e.querySelectorAll("a, button")].indexOf(document.activeElement)
    card(e, w)
    e.querySelectorAll("a, button")[focused]?.focus({ preventScroll: true })
    return e
  })
  const active = document.activeElement
  if (items.some((e, i) => $("replays").children[i] !== e) || items.length !== $("replays").children.length) $("replays").replaceChildren(...items)
  if (active?.isConnected && active !== document.activeElement) active.focus({ preventScroll: true })
  $("no-replays").hidden = list.length > 0
}

function card(e, w) {
  fill(e,
    h("div", { class: "work-head" }, h("h3", {}, h("a", { href: address({ view: "replays", work: w.id }), "data-internal": "" }, title(w))), pill(w.status), h("span", { class: "quiet" }, exactly(w.created_at), " by ", safe(w.who, 100))),
    h("p", {}, selected(w), w.reason && [" · ", safe(w.reason, 300)]),
    bar(w), progress(w),
    running(w) && !readOnly() && h("div", { class: "row-of-buttons" }, button(w.dry_run ? "Stop the plan" : "Stop", (ev) => stop(w, ev.target))))
}

async function stop(w, pressed) {
  pressed.disabled = true
  try { await call("DELETE", "/dlq/replays/" + w.id) } catch (e) { pressed.after(h("span", { class: "bad", role: "alert" }, " " + e.message)) }
  await load()
}

export function forget() {
  list = []
  $("replays").replaceChildren()
  $("running").hidden = true
}
