// The health of the pipeline at a glance.
import { $, count, fill, h, plural, safe } from "./dom.js"

// consequences say what the page cannot show, or what stands still, without a function.
const consequences = {
  "get-latest": "there are no charts",
  poll: "nothing is polled",
  "compute-ma": "prices and averages stand still",
  "dlq-inspector": "dead letters cannot be counted",
}
const words = { up: "up", partly: "partly up", asleep: "asleep", starting: "starting", unavailable: "away", not_running: "not running" }
const gone = ["unavailable", "not_running"]

let report = null
let samples = [] // { at, handled } of the last half minute

// away says whether a function is known not to answer, asleep whether it is scaled to zero. Who refreshes leaves both alone.
const state = (name) => report?.functions.find((f) => f.function === name)?.state
export const away = (name) => gone.includes(state(name))
export const asleep = (name) => state(name) === "asleep"

// show takes a report; null: the server does not answer.
export function show(next) {
  if (!next) {
    tell("The server cannot be reached. What is shown is what was known before.", true)
    return
  }
  report = next
  const missing = report.functions.filter((f) => gone.includes(f.state)), weak = report.functions.filter((f) => f.missing.length || f.state === "partly")
  if (missing.length) tell(missing.map((f) => `${f.function} is ${words[f.state]}: ${consequences[f.function] ?? "its part is missing"}.`).join(" "), true)
  else if (weak.length) tell(weak.map((f) => f.missing.length ? `${f.function} has no ${f.missing.join(", no ")}.` : `${f.function}: ${f.answering} of ${f.replicas} replicas answer.`).join(" "), true)
  else {
    const sleeping = report.functions.filter((f) => f.state === "asleep").map((f) => f.function)
    tell(sleeping.length ? `Every other function answers; asleep: ${sleeping.join(", ")}.` : "Every function answers.")
  }
  functions()
  figures()
}

function tell(text, bad = false) {
  if ($("state").textContent !== text) $("state").textContent = text
  $("state").classList.toggle("bad", bad)
}

function functions() {
  fill($("functions"), report.functions.map((f) => {
    const bad = gone.includes(f.state) || f.missing.length || f.state === "partly"
    const replicas = f.state === "partly" ? ` ${f.answering} of ${f.replicas}` : f.replicas > 1 ? ` × ${f.replicas}` : ""
    const wakes = f.scale?.cold_starts ? `${plural(f.scale.cold_starts, "cold start")}, median ${f.scale.p50_ms.toFixed(0)} ms, p99 ${f.scale.p99_ms.toFixed(0)} ms` : ""
    return h("li", { class: (bad ? "off" : f.state === "up" ? "on" : "") + (f.scale ? " scaled" : ""), title: wakes },
      h("span", { class: "name" }, f.function), h("span", { class: "quiet" }, f.missing.length ? `no ${f.missing.join(", no ")}` : (words[f.state] ?? f.state) + replicas),
      f.scale && h("span", { class: "quiet" }, f.scale.cold_starts ? `${plural(f.scale.cold_starts, "cold start")} · ${f.scale.p50_ms.toFixed(0)} ms` : "no cold start"))
  }))
}

// rate returns the events a second of the last half minute; null: not known yet, because quotes come every few seconds. Counts begin again
// with each replica.
function rate(events) {
  const now = Date.now()
  samples = events ? samples.filter((s) => now - s.at < 30000 && s.handled <= events.handled) : []
  if (events) samples.push({ at: now, handled: events.handled })
  const [first, last] = [samples[0], samples.at(-1)]
  return samples.length > 1 && last.at - first.at > 4500 ? 1000 * (last.handled - first.handled) / (last.at - first.at) : null
}

const duration = (ms) => ms < 1000 ? [ms.toFixed(0), "ms"] : ms < 120000 ? [(ms / 1000).toFixed(1), "s"] : [(ms / 60000).toFixed(0), "min"]

function figures() {
  const { events, outbox, dead_letters: letters, limiter, budgets } = report
  const perSecond = rate(events), unavailable = "unavailable"
  const figure = (name, title, value, unit, note, bad = false) => h("div", { class: "figure" + (bad ? " off" : ""), title },
    h("dt", {}, name), h("dd", {}, h("strong", {}, value ?? "–"), unit && h("span", {}, " " + unit)), h("dd", { class: "quiet" }, note))
  const [delay, unit] = events?.delay_ms == null ? [null, ""] : duration(events.delay_ms)
  const tight = budgets?.length ? budgets.reduce((a, b) => b.left < a.left ? b : a) : null
  const of = (name) => asleep(name) ? "asleep" : unavailable
  fill($("figures"),
    figure("Events", "Events that compute-ma handles, over half a minute", perSecond === null ? null : perSecond.toFixed(perSecond < 10 ? 1 : 0), perSecond === null ? "" : "/s", events ? `${count(events.handled)} handled` : of("compute-ma")),
    figure("Delay", "From the topic to the averages: of the last event, or of the oldest that waits", delay, unit, events ? events.waiting === null ? "source runs elsewhere" : `${count(events.waiting)} waiting` : of("compute-ma"), events?.delay_ms > 10000),
    figure("Outbox", "Events that are stored and not yet acknowledged by the broker, at the last sweep", outbox && count(outbox.rows), "", outbox ? outbox.rows === 0 ? "nothing waits" : outbox.oldest_seconds < 1 ? "just stored" : `oldest ${duration(1000 * outbox.oldest_seconds).join(" ")}` : of("poll"), outbox?.oldest_seconds > 60),
    figure("Dead letters", `Events that failed and wait for a decision${letters?.causes.map((c) => `\n${c.code}: ${c.open}`).join("") ?? ""}`, letters && h("a", { href: "/dlq" }, count(letters.open)), letters && "open",
      letters ? letters.causes.length ? letters.causes.slice(0, 3).map((c) => h("span", { class: "cause" }, safe(c.code, 40), ` ${count(c.open)} `)) : "all is well" : of("dlq-inspector"), letters?.open > 0),
    figure("Limiter", "Who counts the requests of clients: all replicas together in Redis, or each replica its share", limiter && { shared: "exact", degraded: "degraded" }[limiter], "", limiter ? limiter === "shared" ? "counts in Redis" : "no Redis: shares" : unavailable, limiter === "degraded"),
    figure("Budgets", budgets?.map((b) => `${b.provider}: ${b.left} left in ${b.window}`).join("\n") ?? "", tight && count(tight.left), tight && "left", budgets ? tight ? [safe(tight.provider, 32), ` in ${tight.window}`] : "no limit in use" : unavailable, tight?.left <= 0))
}
