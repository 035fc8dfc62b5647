// The table of functions that scale to zero. Without SCALE_TO_ZERO there are none, and it stays hidden.

const section = document.getElementById("functions"), rows = section.querySelector("tbody")
const columns = ["replicas", "in_flight", "waiting", "cold_starts", "p50_ms", "p99_ms"]

function show(functions) {
  section.hidden = functions.length === 0
  functions.forEach((f, i) => {
    let tr = rows.rows[i]
    if (!tr) {
      tr = rows.insertRow()
      const head = document.createElement("th")
      head.scope = "row"
      head.textContent = f.function
      tr.append(head)
      for (const _ of columns) tr.insertCell()
    }
    tr.className = f.replicas === 0 ? "asleep" : ""
    columns.forEach((c, j) => {
      const none = f.cold_starts === 0 && c.endsWith("_ms"), text = none ? "–" : c.endsWith("_ms") ? f[c].toFixed(0) : String(f[c])
      const cell = tr.cells[j + 1]
      if (cell.textContent !== text) cell.textContent = text
    })
  })
}

// refresh goes on while the page is visible and there are functions to show.
async function refresh() {
  let more = true
  while (more && !document.hidden) {
    try {
      const functions = await (await fetch("/page/functions")).json()
      show(functions)
      more = functions.length > 0
    } catch { /* the gateway is away; the table of averages says so */ }
    await new Promise((resume) => setTimeout(resume, 1000))
  }
  if (more) document.addEventListener("visibilitychange", refresh, { once: true })
}
refresh()
