// The operators' page: signing in, the three views, keyboard, and the refresh that runs while the page is visible.
import { get, token } from "./api.js"
import * as bulk from "./bulk.js"
import * as causes from "./causes.js"
import { $, count, fill, h, refreshTimes, safe } from "./dom.js"
import { dropAll, unsent } from "./editor.js"
import * as filters from "./filters.js"
import * as letter from "./letter.js"
import * as list from "./list.js"
import * as replays from "./replays.js"
import { readOnly } from "./role.js"
import { go, onChange, read, selection, state } from "./state.js"

let signedIn = false
let listed = null // the filter that the list shows, as text
let keepFocus = false // the next letter opens without taking the focus

const say = (text, bad = false) => { $("status").textContent = text; $("status").classList.toggle("bad", bad); $("status").hidden = !text }
const guarded = (action) => async (...values) => { try { return await action(...values) } catch (e) { if (e.name !== "AbortError") say(e.message, true) } }

// --- views

const show = guarded(async (s, { reload = false } = {}) => {
  for (const view of ["causes", "letters", "replays"]) {
    $(view + "-view").hidden = s.view !== view
    const a = document.querySelector(`nav a[data-view=${view}]`)
    if (s.view === view) a.setAttribute("aria-current", "page")
    else a.removeAttribute("aria-current")
  }
  document.title = { causes: "Dead letters", letters: "Letters · Dead letters", replays: "Bulk work · Dead letters" }[s.view]
  say("")
  if (s.view === "causes") await causes.load({ fresh: true })
  if (s.view === "replays") await replays.load()
  if (s.view === "letters") await showLetters(s, reload)
  await bulk.show(s.work)
})

async function showLetters(s, reload) {
  filters.show(s.filter)
  $("letters-view").classList.toggle("with-letter", Boolean(s.letter))
  const text = JSON.stringify(s.filter)
  const opened = s.letter === letter.shown() ? null : s.letter ? letter.open(s.letter, { focus: !keepFocus }) : letter.close()
  keepFocus = false
  if (text !== listed || reload) {
    listed = text
    try { await list.load(s.filter) } catch (e) { listed = null; throw e }
  }
  list.mark(s.letter)
  await opened
}

// openLetter shows a letter. Moving with j and k adds one entry to the history, not one per letter.
function openLetter(id, { replace = false, focus = true } = {}) {
  if (!id) return
  if (id === state.letter) { $("letter-title")?.focus(); return }
  keepFocus = !focus
  go({ ...state, view: "letters", letter: id }, { replace })
}
function closeLetter() {
  if (!state.letter) return
  go({ ...state, letter: "" })
  list.focus()
}

filters.listen((filter) => go({ view: "letters", filter, letter: state.letter }))
causes.listen((filter, name) => bulk.open("replay", { filter }, { name: safe(name, 400) }))
list.listen({ open: openLetter, select: toolbar })
letter.onChanged(guarded(async (id, outcome) => {
  if (letter.shown() !== id && outcome) say(`Letter …${id.slice(-6)}: ${outcome.text}`, outcome.bad)
  await Promise.all([list.update(id), loadStats()])
}))
bulk.listen(() => { if (signedIn) refresh() })
document.addEventListener("close-letter", closeLetter)

// A plain click on a link within the page changes the view without reloading the page.
document.addEventListener("click", (e) => {
  const a = e.target.closest("a[data-internal]")
  if (!a || e.defaultPrevented || e.button !== 0 || e.ctrlKey || e.metaKey || e.shiftKey || e.altKey) return
  e.preventDefault()
  go(read(a.search))
})

const mostSelected = 1000 // of one replay or discard

function toolbar() {
  const n = list.selected.size
  $("select-all").checked = n > 0 && n === list.length()
  $("select-all").indeterminate = n > 0 && n < list.length()
  $("selected").textContent = n > mostSelected ? `${count(n)} selected; at most ${count(mostSelected)} at once` : n ? `${count(n)} selected` : "Select all"
  $("select-all").parentElement.hidden = readOnly()
  const { status = "open", same_key_as } = state.filter
  const matching = ["open", "all"].includes(status) && !same_key_as // bulk work is for open letters, and only lists know the key
  for (const action of ["replay", "discard"]) {
    $(action + "-selected").hidden = n === 0 || n > mostSelected || readOnly()
    $(action + "-matching").hidden = n > 0 || !matching || readOnly()
  }
}
$("select-all").addEventListener("change", (e) => list.selectAll(e.target.checked))
for (const action of ["replay", "discard"]) {
  $(action + "-selected").addEventListener("click", () => bulk.open(action, { ids: [...list.selected] }))
  $(action + "-matching").addEventListener("click", () => bulk.open(action, { filter: selection(state.filter) }))
}
$("more-letters").addEventListener("click", guarded(list.more))
$("more-causes").addEventListener("click", guarded(() => causes.load({ more: true })))
$("news").addEventListener("click", guarded(async () => { await list.load(state.filter); list.mark(state.letter); list.focus() }))
$("back").addEventListener("click", closeLetter)

// --- keyboard

const shortcutsOn = () => localStorage.getItem("shortcuts") !== "off"
$("shortcuts-on").checked = shortcutsOn()
$("shortcuts-on").addEventListener("change", (e) => localStorage.setItem("shortcuts", e.target.checked ? "on" : "off"))
$("help").addEventListener("click", () => $("help-dialog").showModal())
$("help-close").addEventListener("click", () => $("help-dialog").close())

let following
function move(by) {
  const inLetter = $("letter").contains(document.activeElement)
  const id = list.step(by, { focus: !inLetter })
  if (!id || !state.letter) return
  clearTimeout(following) // while a key is held, only the letter at which it stops is opened
  following = setTimeout(() => { if (state.letter) openLetter(id, { replace: true, focus: inLetter }) }, 150)
}

const keys = {
  j: () => move(1), k: () => move(-1), x: () => list.toggle(), Enter: () => openLetter(list.currentId()),
  "/": () => { if (state.view !== "letters") go({ view: "letters" }); $("f-q").focus() },
  "?": () => $("help-dialog").showModal(), Escape: closeLetter,
}
document.addEventListener("keydown", (e) => {
  if (!signedIn || e.ctrlKey || e.metaKey || e.altKey || e.defaultPrevented || document.querySelector("dialog[open]")) return
  const inField = e.target.closest("input:not([type=checkbox]), textarea, select")
  if (e.key === "Escape" && inField) { inField.blur(); return }
  if (inField || (e.key !== "Escape" && !shortcutsOn())) return
  if (e.key === "Enter" && e.target.closest("button, a, summary, [role=option]")) return
  if (!["/", "?"].includes(e.key) && state.view !== "letters") return
  if (keys[e.key]) { e.preventDefault(); keys[e.key]() }
})

// --- refresh

async function loadStats() {
  causes.showCounts((await get("/dlq/stats")).statuses, {})
}

let rest = 0 // no request before this time, after a refusal
async function refresh() {
  if (document.hidden || !signedIn || Date.now() < rest) return
  try {
    const work = [loadStats(), replays.load()]
    if (state.view === "causes") work.push(causes.load())
    if (state.view === "letters") work.push(list.refresh().then((changed) => { if (changed.some(letter.differs)) letter.noticeChange() }))
    await Promise.all(work)
    fill($("fresh"), h("span", { class: "wide-only" }, "Updated "), `${new Date().toISOString().slice(11, 19)} UTC`)
    $("fresh").classList.remove("bad")
  } catch (e) {
    if (e.status === 401) return
    rest = Date.now() + 1000 * (e.retryAfter || 5)
    fill($("fresh"), "Not up to date", h("span", { class: "wide-only" }, `: ${e.message}`))
    $("fresh").classList.add("bad")
  }
}
setInterval(() => { if (!replays.anyRunning()) refresh() }, 10000)
setInterval(() => { if (replays.anyRunning()) refresh() }, 2500)
setInterval(refreshTimes, 5000)
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh() })
addEventListener("beforeunload", (e) => { if (unsent()) e.preventDefault() })

// --- signing in and out

function signOut(text = "") {
  signedIn = false
  token.drop()
  listed = null
  for (const part of [letter, causes, replays, bulk]) part.forget()
  $("list").replaceChildren()
  for (const id of ["views", "sign-out", "read-only", "help", "fresh", "counts", "causes-view", "letters-view", "replays-view"]) $(id).hidden = true
  for (const d of document.querySelectorAll("dialog[open]")) d.close()
  $("sign-in").hidden = false
  $("sign-in-error").textContent = text
  $("token").focus()
  say("")
}

async function signIn() {
  const [stats, me] = await Promise.all([get("/dlq/stats"), get("/dlq/me")])
  signedIn = true
  $("read-only").hidden = me.role !== "reader"
  $("sign-in").hidden = true
  for (const id of ["views", "sign-out", "help", "fresh", "counts"]) $(id).hidden = false
  causes.showCounts(stats.statuses, {})
  refresh()
  await show(state, { reload: true })
}

document.addEventListener("unauthorized", () => { if (signedIn) signOut("The token is no longer accepted. Sign in again; unsent edits are kept.") })
$("sign-in").addEventListener("submit", async (e) => {
  e.preventDefault()
  token.set($("token").value.trim())
  $("sign-in-button").disabled = true
  try {
    await signIn()
    $("token").value = ""
    if (!state.letter) $("main").focus()
  } catch (problem) {
    token.drop()
    $("sign-in-error").textContent = problem.status === 401 ? `Sign-in failed: ${problem.message}.` : problem.message
    $("token").select()
  } finally {
    $("sign-in-button").disabled = false
  }
})
$("sign-out").addEventListener("click", () => {
  if (unsent() && !confirm("Some edits have not been sent. Sign out and lose them?")) return
  dropAll()
  signOut()
})

onChange((s) => { if (signedIn) show(s) })
if (token.get()) signIn().catch((e) => signOut(e.status === 401 ? "" : e.message))
else signOut()
