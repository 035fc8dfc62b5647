// The list of letters: one tab stop, moved through with the keyboard, and selected from. A refresh never moves a row.
import { get } from "./api.js"
import { $, count, fill, h, plural, safe, when } from "./dom.js"
import { hasEdits } from "./editor.js"
import { pill } from "./facts.js"
import { query } from "./state.js"

const page = 100
const box = $("list")
let rows = [] // { letter, element }, newest first
let token = null // of the next page
let searched = null // how far back a search has looked, on a page that it did not fill
let filter = {}
let turn = 0 // number of the newest load; late answers of others are ignored
let current = 0 // index of the row that has the tab stop
let current_id = "" // of the letter that is shown
let anchor = 0 // of a selection with shift
export const selected = new Set() // ids
let on = { open: () => {}, select: () => {} }

export const listen = (handlers) => { on = handlers }
export const length = () => rows.length

const fetchPage = (from) => get(`/dlq/messages?${query(filter, { limit: page, ...(from && { page_token: from }) })}`)

// load shows the first page of a filter.
export async function load(next) {
  const mine = ++turn
  filter = next
  token = null // of another filter
  box.setAttribute("aria-busy", "true")
  try {
    const answer = await fetchPage()
    if (mine !== turn) return
    rows = []
    selected.clear()
    current = anchor = 0
    box.replaceChildren()
    box.scrollTop = 0
    append(answer)
    $("news").hidden = true
    on.select()
    if (rows.length === 0) await addPage(mine)
  } finally {
    if (mine === turn) box.removeAttribute("aria-busy")
  }
}

export const more = () => addPage(++turn)

// addPage adds the next page that has letters: pages of a search may be empty although others follow.
async function addPage(mine) {
  const length = rows.length
  while (token && rows.length === length) {
    const answer = await fetchPage(token)
    if (mine !== turn) return
    append(answer)
  }
}

function append(answer) {
  token = answer.next_page_token
  searched = answer.searched_until
  const known = new Set(rows.map((r) => r.letter.id))
  for (const letter of answer.messages) {
    if (known.has(letter.id)) continue
    const row = { letter, element: h("div", { role: "option", class: "row", id: "row-" + letter.id, "aria-selected": "false", tabindex: -1, data: { id: letter.id } }) }
    draw(row)
    rows.push(row)
    box.append(row.element)
  }
  $("more-letters").hidden = !token
  $("nothing").hidden = rows.length > 0 || token !== null
  $("values-not-searched").hidden = answer.values_searched !== false
  box.hidden = rows.length === 0
  if (rows[current]) rows[current].element.tabIndex = 0
  mark(current_id)
  tell()
}

function tell() {
  const back = token && searched && [rows.length ? ", " : "", "searched back to ", when(searched)]
  fill($("list-count"), rows.length > 0 && (token ? `first ${count(rows.length)}` : plural(rows.length, "letter")), back)
}

function draw(row) {
  const l = row.letter
  const place = l.topic === null || l.topic === undefined ? "record unknown" : `${l.topic} ${l.partition}:${l.offset}`
  fill(row.element,
    h("span", { class: "tick", "aria-hidden": true }),
    h("span", { class: "row-body" },
      h("span", { class: "row-top" }, h("strong", {}, safe(l.symbol ?? "no symbol", 40)), l.status !== "open" && pill(l.status), hasEdits(l.id) && h("span", { class: "pill edited" }, "unsent edit"), when(l.last_failed_at)),
      h("span", { class: "row-reason" }, h("span", { class: "code" }, safe(l.code, 60)), " ", safe(l.reason || l.meaning || "", 300)),
      h("span", { class: "row-foot" }, h("span", {}, safe(place, 280)), h("span", {}, `…${l.id.slice(-6)}`), l.failure_count > 1 && h("span", {}, `${count(l.failure_count)} failures`), l.replay_count > 0 && h("span", {}, plural(l.replay_count, "replay")))))
}

// refresh asks for the first page again. Rows are updated in place; new ones wait behind a button.
export async function refresh() {
  if (box.hasAttribute("aria-busy")) return []
  const mine = turn
  const answer = await fetchPage()
  if (mine !== turn) return []
  const now = new Map(answer.messages.map((l) => [l.id, l]))
  const at = (l) => Date.parse(l?.last_failed_at ?? 0)
  const oldest = answer.searched_until ? Date.parse(answer.searched_until) : at(answer.messages.at(-1))
  const changed = []
  for (const row of rows) {
    const l = now.get(row.letter.id)
    if (l && JSON.stringify(l) !== JSON.stringify(row.letter)) { row.letter = l; draw(row); changed.push(l) }
    const gone = !l && (at(row.letter) > oldest || !answer.next_page_token)
    row.element.classList.toggle("gone", gone) // it no longer matches the filter
    row.element.title = gone ? "This letter no longer matches the filter" : ""
  }
  const known = new Set(rows.map((r) => r.letter.id)), newest = at(rows[0]?.letter)
  const news = answer.messages.filter((l) => !known.has(l.id) && at(l) >= newest).length
  $("news").hidden = news === 0
  $("news").textContent = `Show ${news === page ? `${page} or more` : count(news)} new ${news === 1 ? "letter" : "letters"}`
  return changed
}

// update reloads one row after an action.
export async function update(id) {
  const row = rows.find((r) => r.letter.id === id)
  if (!row) return
  const { value, headers, attributes, failures, audit, ...letter } = await get("/dlq/messages/" + id)
  row.letter = letter
  draw(row)
}
export const redraw = (id) => { const row = rows.find((r) => r.letter.id === id); if (row) draw(row) }

// mark marks the row of the letter that is shown.
export function mark(id) {
  current_id = id
  rows.forEach((r, i) => {
    if (r.letter.id === id) { r.element.setAttribute("aria-current", "true"); stop(i) } else r.element.removeAttribute("aria-current")
  })
}

function stop(i) {
  if (rows[current]) rows[current].element.tabIndex = -1
  current = i
  rows[i].element.tabIndex = 0
}

export const currentId = () => rows[current]?.letter.id

// step moves by some rows and returns the letter's id.
export function step(by, { focus = true } = {}) {
  if (rows.length === 0) return
  const i = Math.max(0, Math.min(rows.length - 1, current + by))
  if (i === current && by > 0 && token) more().catch(() => {})
  stop(i)
  rows[i].element.scrollIntoView({ block: "nearest" })
  if (focus) rows[i].element.focus({ preventScroll: true })
  return rows[i].letter.id
}

export const focus = () => rows[current]?.element.focus()

function set(i, is) {
  const { letter, element } = rows[i]
  if (is) selected.add(letter.id)
  else selected.delete(letter.id)
  element.setAttribute("aria-selected", String(is))
}

export function toggle(i = current, range = false) {
  if (!rows[i]) return
  const is = !selected.has(rows[i].letter.id)
  const [from, to] = range ? [Math.min(anchor, i), Math.max(anchor, i)] : [i, i]
  for (let n = from; n <= to; n++) set(n, is)
  anchor = i
  on.select()
}

export function selectAll(is) {
  rows.forEach((_, i) => set(i, is))
  on.select()
}

const indexOf = (target) => rows.findIndex((r) => r.element === target.closest(".row"))

box.addEventListener("click", (e) => {
  const i = indexOf(e.target)
  if (i < 0) return
  stop(i)
  if (e.target.closest(".tick") || e.shiftKey || e.ctrlKey || e.metaKey) { toggle(i, e.shiftKey); rows[i].element.focus({ preventScroll: true }) } else on.open(rows[i].letter.id)
})
box.addEventListener("keydown", (e) => {
  const action = { ArrowDown: () => step(1), ArrowUp: () => step(-1), PageDown: () => step(10), PageUp: () => step(-10), Home: () => step(-rows.length), End: () => step(rows.length), " ": () => toggle(), Enter: () => on.open(rows[current].letter.id) }[e.key]
  if ((e.ctrlKey || e.metaKey) && e.key === "a") { e.preventDefault(); selectAll(true) } else if (action && !e.ctrlKey && !e.metaKey && !e.altKey) { e.preventDefault(); e.stopPropagation(); action() }
})
