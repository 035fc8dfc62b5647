// One letter beside the list: what happened, its value, and what can be done about it.
import { get, post } from "./api.js"
import { $, button, h, plural, safe } from "./dom.js"
import { draft, drop, edited, editor } from "./editor.js"
import { facts, headers, pill, timeline } from "./facts.js"
import { bytesOf, base64 } from "./parts.js"
import { reader } from "./reader.js"
import { readOnly } from "./role.js"
import { ask } from "./worker.js"

const panel = $("letter")
let letter = null
let wanted = "" // id of the letter that is, or is about to be, on show
let view = "pretty" // of the value; kept from letter to letter
let busy = new Set() // ids of letters with a request under way
const outcomes = new Map() // outcome of the last action, by id
let changed = () => {} // called after a letter's state changed

export const shown = () => wanted
export const onChanged = (f) => { changed = f }

export function close() {
  wanted = ""
  letter = null
  panel.replaceChildren()
}

// open shows a letter; its promise is fulfilled once it is there.
export async function open(id, { focus = false } = {}) {
  if (wanted !== id) panel.setAttribute("aria-busy", "true")
  wanted = id
  let l
  try { l = await get("/dlq/messages/" + encodeURIComponent(id)) } catch (e) {
    if (wanted !== id) return
    panel.removeAttribute("aria-busy")
    if (letter?.id === id) { render(letter); return } // an old version is better than nothing; the refresh says that it is old
    panel.replaceChildren(h("div", { class: "letter-body" }, h("p", { role: "alert", class: "bad" }, sentence(e.message)), button("Try again", () => open(id, { focus }))))
    return
  }
  if (wanted === id) { render(l); if (focus) $("letter-title").focus({ preventScroll: true }) }
}

// differs reports whether the letter that is shown is older than its row in the list.
export const differs = (row) => letter?.id === row.id && (letter.status !== row.status || letter.failure_count !== row.failure_count || letter.replay_count !== row.replay_count)

export function noticeChange() {
  if (!letter || busy.has(letter.id) || $("stale")) return
  if (!edited(draft(letter)) && !panel.contains(document.activeElement)) { open(letter.id); return }
  $("letter-notices").append(h("p", { id: "stale", class: "notice" }, "This letter has changed since you opened it. ", button("Show the current version", () => open(letter.id, { focus: true }), { class: "link" })))
}

function render(l) {
  const same = letter?.id === l.id
  const scroll = same ? $("letter-scroll").scrollTop : 0
  letter = l
  panel.removeAttribute("aria-busy")
  const d = draft(l)
  panel.replaceChildren(
    h("div", { class: "letter-scroll", id: "letter-scroll" }, h("div", { class: "letter-body" },
      h("header", { class: "letter-head" },
        h("h2", { id: "letter-title", tabindex: -1 }, safe(l.code, 200), l.symbol && [" · ", safe(l.symbol)], " ", pill(l.status)),
        button("Close", () => document.dispatchEvent(new CustomEvent("close-letter")), { id: "close-letter", title: "Close (Esc)" })),
      h("div", { id: "letter-notices" }),
      h("p", { class: "reason" }, safe(l.reason || "no reason given")),
      (l.meaning || l.remedy) && h("div", { class: "callout" }, l.meaning && h("p", {}, sentence(l.meaning)), l.remedy && h("p", {}, h("strong", {}, "What to do: "), sentence(l.remedy))),
      h("section", { "aria-labelledby": "value-title" }, h("h3", { id: "value-title" }, "Value"), l.value_bytes && h("p", { class: "warning" }, `Only the beginning is left: the whole value had ${plural(l.value_bytes, "byte")}, the dead letter was truncated, and the original record is gone.`), valueTabs(l, d)),
      h("section", { "aria-labelledby": "facts-title" }, h("h3", { id: "facts-title" }, "Origin"), facts(l), copies(l)),
      h("section", { "aria-labelledby": "headers-title" }, h("h3", { id: "headers-title" }, "Headers"), headers(l)),
      h("section", { "aria-labelledby": "history-title" }, h("h3", { id: "history-title" }, "History"), timeline(l)))),
    actionBar(l, d))
  $("letter-scroll").scrollTop = scroll
  if (l.status === "replaying") setTimeout(() => { if (letter === l && !busy.has(l.id)) open(l.id) }, 2000)
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".")

// --- the value

function valueTabs(l, d) {
  const body = h("div", { id: "value-body", role: "tabpanel", "aria-labelledby": "tab-pretty" })
  const views = { pretty: "Pretty", raw: "Raw", hex: "Hex", ...(l.status === "open" && !readOnly() && { edit: "Edit" }) }
  const text = l.value === null ? null : l.value_encoding === "base64" ? null : l.value
  const tabs = Object.entries(views).map(([name, label]) => h("button", { type: "button", role: "tab", id: "tab-" + name, "aria-controls": "value-body", onclick: () => show(name) }, label))
  let turn = 0
  async function show(name) {
    const mine = ++turn
    if (!views[name]) name = "pretty"
    if (name !== "edit" || d.open) view = name
    d.open = name === "edit"
    for (const t of tabs) {
      const on = t.id === "tab-" + name
      t.setAttribute("aria-selected", String(on))
      t.tabIndex = on ? 0 : -1
    }
    body.setAttribute("aria-labelledby", "tab-" + name)
    if (name === "edit") { body.replaceChildren(editor(l, d, () => updateBar(l, d))); return }
    if (l.value === null) { body.replaceChildren(h("p", { class: "quiet" }, "The record has a null value (a tombstone).")); return }
    if (l.value === "") { body.replaceChildren(h("p", { class: "quiet" }, "The value is empty: zero bytes.")); return }
    if (name === "hex" || text === null) { body.replaceChildren(...(name === "hex" ? [] : [h("p", { class: "quiet" }, "The value is not plain text, so its bytes are shown.")]), reader(bytesOf(l.value, l.value_encoding), "Bytes of the value")); return }
    if (name === "raw") { body.replaceChildren(reader(text, "Text of the value")); return }
    const indented = await ask("pretty", text)
    if (mine !== turn) return
    body.replaceChildren(...(indented === null ? [h("p", { class: "quiet" }, "Not JSON, or nested too deeply to be indented; shown unchanged.")] : []), reader(indented ?? text, "Text of the value, indented"))
  }
  const bar = h("div", { role: "tablist", "aria-label": "How the value is shown", class: "tabs", onkeydown: (e) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[e.key]
    if (!step) return
    const at = tabs.indexOf(document.activeElement)
    const next = tabs[(at + step + tabs.length) % tabs.length]
    next.click()
    next.focus()
  } }, tabs)
  show(d.open || edited(d) ? "edit" : view === "edit" ? "pretty" : view)
  return h("div", {}, bar, body)
}

// --- copies for a terminal

const quote = (s) => `'${String(s).replaceAll("'", `'\\''`)}'`

function copies(l) {
  const done = h("span", { role: "status", class: "quiet" })
  const copy = (what, text) => button(`Copy ${what}`, async () => {
    try {
      await navigator.clipboard.writeText(text)
      done.textContent = `Copied: ${what}.`
    } catch { // no clipboard on this origin
      done.replaceChildren(h("code", {}, text))
    }
  })
  const file = () => {
    const a = h("a", { href: URL.createObjectURL(new Blob([bytesOf(l.value ?? "", l.value_encoding)])), download: `letter-${l.id}` })
    a.click()
    setTimeout(() => URL.revokeObjectURL(a.href), 10000)
  }
  return h("div", { class: "row-of-buttons" },
    copy("link", `${location.origin}/dlq?view=letters&status=all&letter=${l.id}`),
    copy("as curl", `curl -H "Authorization: Bearer $DLQ_TOKEN" ${quote(`${location.origin}/dlq/messages/${l.id}`)}`),
    l.topic !== null && copy("as kcat", `kcat -C -b "$KAFKA_BOOTSTRAP_SERVERS" -t ${quote(l.topic)} -p ${l.partition} -o ${l.offset} -c 1 -e`),
    l.value !== null && button("Download value", file), done)
}

// --- what operators do

const rest = {
  open: "Nobody has decided about this letter yet.",
  resolved: "The function accepted this letter. There is nothing left to do.", sent: "A copy was sent to the original topic.",
  replaying: "A replay is under way.", discarded: "This letter was set aside.",
}

function actionBar(l, d) {
  const reason = h("input", { id: "reason", maxlength: 1000, autocomplete: "off", placeholder: "For the audit trail (optional)" })
  reason.value = d.reason
  reason.addEventListener("input", () => { d.reason = reason.value })
  const outcome = h("p", { id: "outcome", role: "status", class: outcomes.get(l.id)?.bad ? "bad" : "good" }, outcomes.get(l.id)?.text)
  if (readOnly() || !["open", "discarded"].includes(l.status)) return h("footer", { class: "bar" }, outcome, h("p", {}, rest[l.status]))
  const label = h("label", { class: "reason-label" }, "Reason ", reason)
  if (l.status === "discarded") return h("footer", { class: "bar" }, outcome, h("p", {}, rest.discarded), label, button("Restore", () => act(l, "restore", {}, () => "The letter is open again."), { id: "restore", class: "primary" }))
  const force = h("label", { class: "check", id: "force-box", hidden: !d.limit }, h("input", { type: "checkbox", id: "force", onchange: (e) => { d.force = e.target.checked } }), " Replay once more, even though the letter has used up its replays")
  force.firstChild.checked = d.force
  const buttons = [
    button("Replay", () => act(l, "replay", replayBody(d), accepted), { id: "replay", class: "primary" }),
    l.exact && button("Send copy", () => act(l, "replay", { target: "topic", ...(d.force && { force: true }) }, () => "A copy was sent to the original topic."), { id: "send", title: "Send an exact copy of the record to its topic, for other consumers" }),
    button("Discard", () => act(l, "discard", {}, () => "The letter was set aside."), { id: "discard" })]
  const bar = h("footer", { class: "bar" }, outcome, force, h("div", { class: "bar-row" }, label, h("div", { class: "row-of-buttons" }, buttons)))
  queueMicrotask(() => updateBar(l, d))
  return bar
}

function updateBar(l, d) {
  if (letter?.id !== l.id || !$("replay")) return
  const waiting = busy.has(l.id)
  $("replay").textContent = waiting ? "Working …" : edited(d) ? "Replay with changes" : "Replay"
  for (const id of ["replay", "discard", "send"]) if ($(id)) $(id).disabled = waiting
  if ($("send")) $("send").hidden = edited(d) // a topic gets exact copies only
}

const accepted = (l) => l.status === "resolved" ? "The function accepted it." : l.status === "open" ? `The function refused it: ${l.code}. ${sentence(l.reason || "")}` : `The letter is ${l.status}.`

// replayBody has a value only if it was edited: an untouched value is replayed byte for byte.
function replayBody(d) {
  if (!edited(d)) return d.force ? { force: true } : {}
  const plain = JSON.stringify(d.text)
  const value = plain.length < 2 << 20 ? { value: d.text, value_encoding: "text" } : { value: base64(new TextEncoder().encode(d.text)), value_encoding: "base64" }
  return { ...value, ...(d.force && { force: true }) }
}

async function act(l, path, body, done) {
  const d = draft(l)
  busy.add(l.id)
  updateBar(l, d)
  try {
    const after = await post(`/dlq/messages/${l.id}/${path}`, { ...body, ...(d.reason && { reason: d.reason }) })
    const refused = path === "replay" && after.status === "open"
    outcomes.set(l.id, { text: done(after), bad: refused })
    if (!refused) drop(l.id)
  } catch (e) {
    if (e.status === 409 && e.code === "replay_limit") d.limit = true
    outcomes.set(l.id, { text: e.message, bad: true })
  }
  busy.delete(l.id)
  const had = document.activeElement?.id || path
  if (wanted === l.id) {
    await open(l.id)
    if (wanted === l.id && (document.activeElement === document.body || !document.activeElement)) ($(had) && !$(had).disabled ? $(had) : $("letter-title"))?.focus({ preventScroll: true })
  }
  changed(l.id, outcomes.get(l.id))
}

export const forget = () => { outcomes.clear(); busy = new Set(); close() }
