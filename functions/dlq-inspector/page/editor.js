// The editor of a letter's value. A draft belongs to its letter and is kept until it is sent or undone: neither a refusal
// nor opening another letter loses it. Long values are edited in parts, so that a keystroke costs the same at any size.
import { button, count, h, oddities } from "./dom.js"
import { lf, partEnd, restore, size, starts, textOf } from "./parts.js"
import { changes } from "./changes.js"
import { ask } from "./worker.js"

const drafts = new Map()
const largest = 3 << 20 // bytes of a file

// draft returns the draft of a letter: base is the value that it starts from, text what it is now. A value that is not
// valid UTF-8 starts from the closest text, and an edit of it is sent as text.
export function draft(letter) {
  let d = drafts.get(letter.id)
  if (!d) {
    const base = textOf(letter.value, letter.value_encoding)
    d = { base, text: base, reason: "", force: false, from: 0, open: false }
    drafts.set(letter.id, d)
  }
  return d
}
export const edited = (d) => d.text !== d.base
export const drop = (id) => drafts.delete(id)
export const dropAll = () => drafts.clear()
export const unsent = () => [...drafts.values()].some(edited)
export const hasEdits = (id) => drafts.has(id) && edited(drafts.get(id))

// editor returns the element that edits a draft; onEdit is called after each change.
export function editor(letter, d, onEdit) {
  const area = h("textarea", { id: "value", class: "exact", spellcheck: "false", autocomplete: "off", dir: "ltr", "aria-label": "Value", "aria-describedby": "faults" })
  const where = h("span", { class: "quiet", role: "status" })
  const faults = h("ul", { id: "faults", class: "faults", "aria-live": "polite" })
  const diffBox = h("div", { id: "diff" })
  const note = h("p", { class: "warning", hidden: true })
  let raw = "" // the part in the text area, as it was when it was put there
  let length = 0 // of that part now

  function show(from) {
    d.from = from
    raw = d.text.slice(from, partEnd(d.text, from))
    length = raw.length
    area.value = raw // the browser turns line ends into LF
    area.rows = Math.max(5, Math.min(16, Math.ceil(raw.length / 70) + raw.split("\n").length))
    const all = starts(d.text)
    parts.hidden = all.length === 1
    where.textContent = `characters ${count(from)} to ${count(from + raw.length)} of ${count(d.text.length)}`
    previous.disabled = from === 0
    next.disabled = from + raw.length >= d.text.length
  }
  const partOf = (at) => starts(d.text).findLast((p) => p <= at) ?? 0

  area.addEventListener("input", () => {
    const before = d.text.slice(0, d.from), after = d.text.slice(d.from + length)
    const now = restore(raw, area.value)
    d.text = before + now + after
    length = now.length
    onEdit()
    later()
  })

  let timer, asked = 0
  function later() {
    clearTimeout(timer)
    timer = setTimeout(compare, d.text.length > 100000 ? 400 : 120)
  }
  async function compare() {
    if (area.value.length > 3 * size) show(partOf(d.from + area.selectionStart)) // a long text was pasted
    const mine = ++asked, text = d.text
    const odd = oddities(text.slice(d.from, d.from + size * 3))
    note.hidden = odd.length === 0
    note.textContent = odd.length ? `This part has characters that are invisible or change how text is displayed: ${odd.slice(0, 8).join(", ")}.` : ""
    const [wrong, pieces] = await Promise.all([ask("faults", text), edited(d) ? ask("diff", d.base, text) : null])
    if (mine !== asked) return
    faults.replaceChildren(...(wrong.length ? wrong : ["It looks like a price event."]).map((f) => h("li", { class: wrong.length ? "bad" : "good" }, f)))
    diffBox.replaceChildren(...(pieces ? [h("h4", {}, "Changes"), changes(pieces)] : []))
  }

  const find = h("input", { type: "search", class: "find", "aria-label": "Find in the value", placeholder: "Find" })
  let at = -1
  function search() {
    if (!find.value) return
    at = d.text.indexOf(find.value, at + 1)
    if (at < 0) { where.textContent = "No more matches; the next search starts at the beginning."; return }
    const from = partOf(at)
    show(from)
    const start = lf(d.text.slice(from, at)).length
    area.focus()
    area.setSelectionRange(start, start + find.value.length)
  }
  find.addEventListener("input", () => { at = -1 })
  find.addEventListener("keydown", (e) => { if (e.key === "Enter") { e.preventDefault(); search() } })
  const previous = button("Previous", () => show(partOf(d.from - 1)))
  const next = button("Next", () => show(d.from + length))
  const parts = h("div", { class: "parts" }, previous, next, find, button("Find next", search), where)

  const replace = (text) => { d.text = text; show(0); onEdit(); compare() }
  const file = h("input", { type: "file", hidden: true, "aria-hidden": true, tabindex: -1, onchange: async () => {
    const [chosen] = file.files
    file.value = ""
    if (!chosen) return
    try { replace(await readText(chosen)) } catch (e) { faults.replaceChildren(h("li", { class: "bad" }, e.message)) }
  } })
  const tools = h("div", { class: "row-of-buttons" }, button("Undo all changes", () => replace(d.base), { id: "take-back" }), button("Replace with a file …", () => file.click()), file)

  show(Math.min(d.from, d.text.length))
  compare()
  return h("div", { class: "editor" },
    letter.value_encoding === "base64" && h("p", { class: "warning" }, "The value is not plain text. Bytes that are not UTF-8 are shown as \uFFFD. If you change it, everything you see is sent as text."),
    letter.value === null && h("p", { class: "warning" }, "The record has a null value (a tombstone). If you enter a value, it is sent instead."),
    parts, area, note, tools, faults, diffBox)
}

// readText reads a file exactly as it is.
async function readText(file) {
  if (file.size > largest) throw new Error(`The file has ${count(file.size)} bytes; at most ${count(largest)} can be sent.`)
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(await file.arrayBuffer())
  } catch {
    throw new Error("The file is not valid UTF-8 text.")
  }
}
