// The overview: how many letters there are, and what caused them.
import { get } from "./api.js"
import { $, button, count, fill, h, plural, safe, when } from "./dom.js"
import { readOnly } from "./role.js"
import { address } from "./state.js"

let token = null
let turn = 0
let onPlan = () => {}
export const listen = (plan) => { onPlan = plan }

const words = {
  open: "waiting for a decision", replaying: "being replayed", resolved: "accepted by the function", sent: "copied to the original topic", discarded: "set aside",
}

// showCounts shows the letters by status; each is a link to its list.
export function showCounts(statuses, filter) {
  const link = (status, n) => h("a", { href: address({ view: "letters", filter: { ...filter, status } }), "data-internal": "", class: "count " + status, title: words[status], data: { status } },
    h("strong", {}, count(n)), h("span", {}, status))
  const known = Object.keys(words).filter((s) => s in statuses)
  $("counts").replaceChildren(...[...known, ...Object.keys(statuses).filter((s) => !known.includes(s))].map((s) => link(s, statuses[s])))
  const all = Object.values(statuses).reduce((a, b) => a + Number(b), 0)
  const waiting = Number(statuses.open) + Number(statuses.replaying ?? 0)
  $("all-is-well").hidden = waiting > 0
  $("all-is-well-more").textContent = all ? `No letter is open. ${plural(all, "letter has", "letters have")} been dealt with.` : "No event has failed. Dead letters appear here automatically."
}

// load shows causes, the largest first. A refresh updates the causes that are shown in place, and adds new ones at the end:
// nothing moves while somebody is reading.
export async function load({ fresh = false, more = false } = {}) {
  const mine = ++turn
  const list = $("causes")
  const limit = more || fresh ? 20 : Math.max(20, Math.min(list.children.length, 200))
  const answer = await get(`/dlq/groups?${new URLSearchParams({ limit, ...(more && token && { page_token: token }) })}`)
  if (mine !== turn) return
  if (fresh) list.replaceChildren()
  if (fresh || more) token = answer.next_page_token
  $("more-causes").hidden = !token
  const shown = new Map([...list.children].map((e) => [e.dataset.fingerprint, e]))
  for (const g of answer.groups) {
    const text = JSON.stringify(g)
    let e = shown.get(g.fingerprint)
    if (e?.dataset.text === text) continue
    if (!e) list.append(e = h("li", { class: "cause", data: { fingerprint: g.fingerprint } }))
    e.dataset.text = text
    if (!e.contains(document.activeElement)) card(e, g)
  }
  $("causes-title").hidden = list.hidden = list.children.length === 0
}

function card(e, g) {
  const link = (status, text) => h("a", { href: address({ view: "letters", filter: { status, fingerprint: g.fingerprint } }), "data-internal": "", class: "cause-link" }, text)
  const open = Number(g.open)
  e.classList.toggle("settled", open === 0)
  fill(e,
    h("div", { class: "cause-count" }, h("strong", {}, count(open)), h("span", {}, "open"), h("span", { class: "quiet" }, `of ${count(g.letters)}`)),
    h("div", { class: "cause-text" },
      h("h3", {}, link(open ? "open" : "all", h("span", {}, h("span", { class: "code" }, safe(g.code, 200)), " ", safe(g.reason, 300)))),
      g.meaning && h("p", {}, `${g.meaning.charAt(0).toUpperCase()}${g.meaning.slice(1)}.`, g.remedy && [" ", h("strong", {}, "What to do: "), g.remedy + "."]),
      h("p", { class: "quiet" }, "first ", when(g.first_failed_at), " · last ", when(g.last_failed_at))),
    spark(g.per_hour),
    open > 0 && !readOnly() && h("div", { class: "cause-action" }, button("Plan a replay …", () => onPlan({ fingerprint: g.fingerprint }, `${g.code}: ${g.reason}`))))
}

// spark shows the failures of the last 24 hours, the current hour on the right. A bar is as high as its share of the busiest hour.
function spark(hours) {
  const most = Math.max(...hours), sum = hours.reduce((a, b) => a + b, 0)
  const text = sum ? `${plural(sum, "failure")} in the last 24 hours, at most ${count(most)} in an hour` : "No failures in the last 24 hours"
  return h("div", { class: "spark", role: "img", "aria-label": text, title: text }, hours.map((n) => {
    const bar = h("i", { class: n ? "some" : "" })
    bar.style.height = n ? `${Math.max(8, 100 * n / most)}%` : "1px"
    return bar
  }))
}

export function forget() {
  turn++
  $("causes").replaceChildren()
  $("counts").replaceChildren()
}
