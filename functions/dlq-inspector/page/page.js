// The operators' page: everything it shows comes over /dlq, and is put into the document as text, never as markup.
const $ = (id) => document.getElementById(id)
const say = (text, bad = false) => { $("status").textContent = text; $("status").classList.toggle("bad", bad) }

// call makes a request with the operator's token; a refused one throws what its problem document says.
async function call(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: { Authorization: "Bearer " + (sessionStorage.getItem("token") ?? ""), ...(body && { "Content-Type": "application/json" }) },
    body: body && JSON.stringify(body),
  })
  const answer = await response.json().catch(() => ({}))
  if (response.status === 401) signOut()
  if (!response.ok) throw new Error(answer.detail || answer.title || `status ${response.status}`)
  return answer
}

// guarded runs an action and says what went wrong.
const guarded = (action) => async (event) => {
  event?.preventDefault()
  try { await action(event) } catch (e) { say(e.message, true) }
}

const element = (tag, text, className) => {
  const e = document.createElement(tag)
  if (text !== undefined && text !== null) e.textContent = text
  if (className) e.className = className
  return e
}
const link = (text, action) => { const b = element("button", text); b.type = "button"; b.onclick = guarded(action); return b }
const time = (text) => text ? new Date(text).toLocaleString() : ""

function row(cells) {
  const tr = element("tr")
  for (const c of cells) {
    const td = element("td")
    td.append(c instanceof Node ? c : document.createTextNode(c ?? ""))
    if (typeof c === "number") td.className = "number"
    tr.append(td)
  }
  return tr
}

// pages fills a table's body, a page at a time.
function pages(body, more, path, noun, toRow) {
  let token = null
  const next = async () => {
    const query = new URLSearchParams(path.query())
    if (token) query.set("page_token", token)
    const answer = await call("GET", `${path.base}?${query}`)
    body.append(...answer[noun].map(toRow))
    token = answer.next_page_token
    more.hidden = !token
    return answer[noun].length
  }
  more.onclick = guarded(next)
  return async () => { token = null; const before = [...body.children]; const n = await next(); before.forEach((e) => e.remove()); return n }
}

// --- what is shown

let fingerprint = ""
let letter = null

const filter = () => {
  const f = { symbol: $("f-symbol").value.trim().toUpperCase(), q: $("f-q").value, fingerprint }
  for (const name of ["since", "until"]) if ($("f-" + name).value) f[name] = new Date($("f-" + name).value).toISOString()
  return Object.fromEntries(Object.entries(f).filter(([, v]) => v))
}

const loadGroups = pages($("groups"), $("more-groups"), { base: "/dlq/groups", query: () => ({ limit: 20 }) }, "groups", (g) =>
  row([link(`${g.code}: ${g.reason}`, () => { choose(g.fingerprint); return loadLetters() }), g.open, g.letters, time(g.first_failed_at), time(g.last_failed_at)]))

const loadMessages = pages($("letters"), $("more-letters"), {
  base: "/dlq/messages",
  query: () => ({ limit: 50, ...filter(), ...($("f-status").value && { status: $("f-status").value }) }),
}, "messages", (m) => {
  const tr = row([link(time(m.last_failed_at), () => show(m.id, true)), m.code, m.symbol, m.topic === null ? "" : `${m.topic} ${m.partition}:${m.offset}`, m.status, m.failure_count])
  tr.dataset.id = m.id
  return tr
})

function choose(f) {
  fingerprint = f
  $("f-cause").hidden = !f
  $("f-fingerprint").textContent = f
}

async function loadLetters() {
  const n = await loadMessages()
  say(n === 0 ? "No letters." : "")
  mark()
}

async function loadStats() {
  const { statuses } = await call("GET", "/dlq/stats")
  $("stats").textContent = Object.entries(statuses).filter(([, n]) => n).map(([s, n]) => `${n} ${s}`).join(" · ") || "none"
}

const refresh = () => Promise.all([loadStats(), loadGroups(), loadLetters()])

const mark = () => { for (const tr of $("letters").children) tr.setAttribute("aria-current", String(tr.dataset.id === letter?.id)) }

async function show(id, focus) {
  letter = await call("GET", "/dlq/messages/" + id)
  $("letter").hidden = false
  $("letter-title").textContent = `${letter.code}${letter.symbol ? " · " + letter.symbol : ""} · ${letter.status}`
  $("meaning").textContent = [letter.reason, letter.meaning, letter.remedy && "What to do: " + letter.remedy].filter(Boolean).join(" — ")
  const facts = {
    Record: letter.topic === null ? "not known" : `${letter.topic}, partition ${letter.partition}, offset ${letter.offset}`,
    Exact: letter.exact ? "yes: key, value and headers are the original record's own" : "no: as it was delivered",
    Recorded: time(letter.recorded_at),
    Key: letter.key === null ? "none" : letter.key + (letter.key_encoding === "base64" ? " (base64)" : ""),
    "Content type": letter.content_type,
    Replays: letter.replay_count,
    Cause: letter.fingerprint,
  }
  const headers = {
    ...Object.fromEntries(letter.headers.map((h) => [`Header ${h.name}`, h.value + (h.encoding === "base64" ? " (base64)" : "")])),
    ...Object.fromEntries(Object.entries(letter.attributes ?? {}).map(([k, v]) => [`Attribute ${k}`, v])),
  }
  for (const [id, list] of [["facts", facts], ["headers", headers]]) {
    $(id).replaceChildren(...Object.entries(list).filter(([, v]) => v !== "" && v !== undefined).flatMap(([k, v]) => [element("dt", k), element("dd", v)]))
  }
  $("value").value = letter.value ?? ""
  $("encoding").textContent = letter.value === null ? "(the record has a null value)" : letter.value_encoding === "base64" ? "(base64: it is no text)" : ""
  $("force").checked = false
  $("failures").replaceChildren(...letter.failures.map((f) => element("li", `${time(f.failed_at)} ${f.function ?? ""} ${f.code}: ${f.reason}`)))
  $("audit").replaceChildren(...letter.audit.map((a) => element("li", `${time(a.at)} ${a.who}: ${a.action}${a.reason ? " (" + a.reason + ")" : ""}, ${a.before.status} → ${a.after.status}`)))
  const open = letter.status === "open"
  for (const id of ["replay", "send", "discard"]) $(id).disabled = !open
  $("send").hidden = !letter.exact
  $("restore").hidden = letter.status !== "discarded"
  $("value").readOnly = !open
  showDiff()
  mark()
  if (focus) $("letter").focus()
}

// --- the editor's difference to the original, line by line

const lines = (text) => {
  try { return JSON.stringify(JSON.parse(text), null, 2).split("\n") } catch { return text.split("\n") }
}

// diff is the longest common subsequence of lines; long texts are compared by their ends only.
function diff(a, b) {
  let start = 0
  while (start < a.length && start < b.length && a[start] === b[start]) start++
  let end = 0
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++
  const x = a.slice(start, a.length - end), y = b.slice(start, b.length - end)
  const out = a.slice(0, start).map((l) => [" ", l])
  if (x.length * y.length > 1e6) {
    out.push(...x.map((l) => ["-", l]), ...y.map((l) => ["+", l]))
  } else {
    const best = Array.from({ length: x.length + 1 }, () => new Uint32Array(y.length + 1))
    for (let i = x.length - 1; i >= 0; i--) for (let j = y.length - 1; j >= 0; j--) best[i][j] = x[i] === y[j] ? best[i + 1][j + 1] + 1 : Math.max(best[i + 1][j], best[i][j + 1])
    let i = 0, j = 0
    while (i < x.length || j < y.length) {
      if (i < x.length && j < y.length && x[i] === y[j]) { out.push([" ", x[i]]); i++; j++ }
      else if (j >= y.length || (i < x.length && best[i + 1][j] >= best[i][j + 1])) out.push(["-", x[i++]])
      else out.push(["+", y[j++]])
    }
  }
  return out.concat(a.slice(a.length - end).map((l) => [" ", l]))
}

const edited = () => letter !== null && $("value").value !== (letter.value ?? "")

function showDiff() {
  $("diff-box").hidden = !edited()
  if (!edited()) return
  $("diff").replaceChildren(...diff(lines(letter.value ?? ""), lines($("value").value)).map(([sign, line]) =>
    element("span", sign + " " + line + "\n", sign === "-" ? "del" : sign === "+" ? "add" : "")))
}
$("value").oninput = showDiff

// --- what operators do

const act = (path, body, done) => guarded(async () => {
  const request = { ...(typeof body === "function" ? body() : body), ...($("reason").value && { reason: $("reason").value }) }
  const after = await call("POST", `/dlq/messages/${letter.id}/${path}`, request)
  $("reason").value = ""
  await show(letter.id, false)
  await refresh()
  say(done(after))
})

$("edit").onsubmit = act("replay", () => ({
  ...(edited() && { value: $("value").value, value_encoding: letter.value_encoding }),
  ...($("force").checked && { force: true }),
}), (l) => l.status === "resolved" ? "The function took it." : `The function refuses it: ${l.code}, ${l.reason}`)
$("send").onclick = act("replay", () => ({ target: "topic", ...($("force").checked && { force: true }) }), () => "A copy was sent.")
$("discard").onclick = act("discard", {}, () => "Discarded.")
$("restore").onclick = act("restore", {}, () => "It is open again.")

// --- replays of many

let running = null

const outcomes = (r) => Object.entries(r.outcomes).filter(([, n]) => n).map(([what, n]) => `${n} ${what}`).join(", ") || "nothing yet"

function progress(r) {
  $("bulk-progress").textContent = r.dry_run
    ? `Plan: ${r.done} of ${r.matched} asked; would be: ${outcomes(r)}`
    : `${r.status}: ${r.done} of ${r.matched}; ${outcomes(r)}`
  $("bulk-bar").hidden = false
  $("bulk-bar").max = Math.max(r.matched, 1)
  $("bulk-bar").value = r.status === "running" ? r.done : $("bulk-bar").max
  $("bulk-cancel").hidden = r.status !== "running"
}

async function follow(r) {
  running = r
  progress(r)
  while (running?.id === r.id && r.status === "running") {
    await new Promise((resume) => setTimeout(resume, 1000))
    r = await call("GET", "/dlq/replays/" + r.id)
    if (running?.id === r.id) progress(r)
  }
  if (running?.id !== r.id) return
  running = null
  $("bulk-go").disabled = !(r.dry_run && r.status === "completed" && r.matched > 0)
  if (!r.dry_run) await refresh()
}

const inDialog = (action) => async (event) => {
  event?.preventDefault()
  try { await action(event) } catch (e) { $("bulk").open ? $("bulk-progress").textContent = e.message : say(e.message, true) }
}

$("replay-all").onclick = () => {
  const f = filter()
  $("bulk-what").textContent = Object.keys(f).length ? "Open letters with " + Object.entries(f).map(([k, v]) => `${k} ${v}`).join(", ") : "All open letters"
  $("bulk-progress").textContent = "A plan asks the function what it would make of each letter, and changes nothing."
  $("bulk-go").disabled = true
  $("bulk-bar").hidden = $("bulk-cancel").hidden = true
  $("bulk").showModal()
}
$("bulk-form").onsubmit = inDialog(async (event) => {
  const plan = event.submitter?.value !== "replay"
  $("bulk-go").disabled = true
  await follow(await call("POST", "/dlq/replays", {
    filter: filter(), dry_run: plan, rate_per_second: Number($("bulk-rate").value), ...($("bulk-reason").value && { reason: $("bulk-reason").value }),
  }))
})
$("bulk-cancel").onclick = inDialog(async () => { if (running) progress(await call("DELETE", "/dlq/replays/" + running.id)) })
$("bulk-close").onclick = () => { running = null; $("bulk").close() }

// --- signing in and out

function signOut() {
  sessionStorage.removeItem("token")
  $("sign-in").hidden = false
  $("work").hidden = $("sign-out").hidden = true
  $("stats").textContent = ""
  letter = null
  $("letter").hidden = true
  if ($("bulk").open) $("bulk").close()
  $("token").focus()
  say("")
}

async function signedIn() {
  await loadStats()
  $("sign-in").hidden = true
  $("work").hidden = $("sign-out").hidden = false
  await refresh()
}

$("sign-in").onsubmit = guarded(async () => {
  sessionStorage.setItem("token", $("token").value)
  $("token").value = ""
  await signedIn()
  $("main").focus()
})
$("sign-out").onclick = () => signOut()
$("filter").onsubmit = guarded(loadLetters)
$("any-cause").onclick = guarded(() => { choose(""); return loadLetters() })

if (sessionStorage.getItem("token")) guarded(signedIn)()
else signOut()
