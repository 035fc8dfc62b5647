// Charts as inline SVG: a small one for a row, and a large one with axes. Prices are drawn as floating point numbers, which is more
// exact than any screen.

const ns = "http://www.w3.org/2000/svg"

function svg(tag, attributes = {}, ...children) {
  const e = document.createElementNS(ns, tag)
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value)
  e.append(...children)
  return e
}

const path = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("")

// span returns a range with room for some values, which are greater than 0.
function span(values) {
  let low = Infinity, high = -Infinity
  for (const v of values) { low = Math.min(low, v); high = Math.max(high, v) }
  const pad = (high - low || high * 0.01) * 0.06
  return [Math.max(low - pad, 0), high + pad]
}

// spark draws points in the order of their time, at equal distances: nights and weekends leave no gaps.
export function spark(points, label) {
  const width = 120, height = 32, values = points.map((p) => Number(p.price)), [low, high] = span(values)
  const line = values.map((v, i) => [values.length > 1 ? i * width / (values.length - 1) : width / 2, height - (v - low) / (high - low) * height])
  const e = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", class: "spark", role: "img", "aria-label": label })
  if (line.length === 1) line.unshift([0, line[0][1]])
  if (line.length) e.append(svg("path", { d: `${path(line)}V${height}H${line[0][0]}Z`, class: "area" }), svg("path", { d: path(line), class: "line" }))
  return e
}

// thin keeps the first, the least, the greatest and the last point of each column, which look like all of them.
function thin(points, columns) {
  if (points.length <= 4 * columns) return points
  const out = []
  for (let c = 0; c < columns; c++) {
    const part = points.slice(Math.floor(c * points.length / columns), Math.floor((c + 1) * points.length / columns))
    const by = (better) => part.reduce((a, b) => better(b.v, a.v) ? b : a)
    out.push(...new Set([part[0], by((a, b) => a < b), by((a, b) => a > b), part.at(-1)].sort((a, b) => a.t - b.t)))
  }
  return out
}

// ticks returns round numbers between two.
function ticks(low, high, most) {
  const raw = (high - low) / most, power = 10 ** Math.floor(Math.log10(raw))
  const step = [1, 2, 2.5, 5, 10].find((n) => n * power >= raw) * power
  const out = []
  for (let i = Math.ceil(low / step); i * step <= high; i++) out.push(i * step || 0) // not -0
  return { out, digits: Math.max(0, Math.min(8, -Math.floor(Math.log10(step) + 1e-9) + (step / power === 2.5 ? 1 : 0))) }
}

const day = 86400000
const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

// moments returns round times between two, with labels.
function moments(from, to, most) {
  const out = [], wide = to - from
  if (wide > 60 * day) {
    const step = [1, 2, 3, 6, 12, 24, 60, 120, 240].find((n) => wide / (n * 30.4 * day) <= most) ?? 600, first = new Date(from)
    const month = (m) => new Date(0).setUTCFullYear(Math.floor(m / 12), m % 12, 1)
    for (let m = Math.ceil((first.getUTCFullYear() * 12 + first.getUTCMonth() + 1) / step) * step; month(m) <= to; m += step) {
      out.push([month(m), step >= 12 ? String(Math.floor(m / 12)) : m % 12 === 0 ? String(m / 12) : months[m % 12]])
    }
    return out
  }
  const step = [1, 5, 10, 30, 60, 300, 600, 1800, 3600, 10800, 21600, 43200, 86400, 172800, 604800, 1209600].find((s) => wide / (s * 1000) <= most) * 1000
  for (let t = Math.ceil(from / step) * step; t <= to; t += step) {
    const iso = new Date(t).toISOString()
    out.push([t, step >= day || t % day === 0 ? `${Number(iso.slice(8, 10))} ${months[Number(iso.slice(5, 7)) - 1]}` : iso.slice(11, step < 60000 ? 19 : 16)])
  }
  return out
}

// chart draws prices and averages, as [{t, v}], into a box, and returns a function that marks the point nearest to a time.
export function chart(box, prices, averages) {
  const width = Math.max(box.clientWidth, 240), height = Math.max(box.clientHeight, 160), left = 4, right = 62, top = 8, bottom = 24
  const [low, high] = span([...prices, ...averages].map((p) => p.v)), from = prices[0].t, to = Math.max(prices.at(-1).t, from + 1)
  const x = (t) => left + (t - from) / (to - from) * (width - left - right), y = (v) => height - bottom - (v - low) / (high - low) * (height - top - bottom)
  const e = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: "chart", "aria-hidden": "true" })
  const { out: levels, digits } = ticks(low, high, Math.max(3, height / 70))
  for (const v of levels) {
    e.append(svg("path", { d: `M${left} ${y(v).toFixed(1)}H${width - right}`, class: "grid" }))
    e.append(svg("text", { x: width - right + 8, y: y(v) + 4 }, v.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })))
  }
  let free = -Infinity
  for (const [t, text] of moments(from, to, width / 90)) {
    const at = x(t), half = text.length * 3.6
    if (at - half < Math.max(free, 0) || at + half > width - right + 20) continue
    free = at + half + 12
    e.append(svg("path", { d: `M${at.toFixed(1)} ${height - bottom}v5`, class: "grid" }), svg("text", { x: at, y: height - 6, "text-anchor": "middle" }, text))
  }
  const line = (points) => path(thin(points, Math.ceil(width)).map((p) => [x(p.t), y(p.v)]))
  e.append(svg("path", { d: `${line(prices)}V${height - bottom}H${x(from)}Z`, class: "area" }), svg("path", { d: line(prices), class: "line" }))
  if (averages.length) e.append(svg("path", { d: line(averages), class: "average" }))
  const rule = svg("path", { class: "rule" }), dots = [svg("circle", { r: 3.5, class: "dot" }), svg("circle", { r: 3.5, class: "dot average-dot" })]
  e.append(rule, ...dots)
  box.replaceChildren(e)
  const mark = (p, average) => {
    rule.setAttribute("d", `M${x(p.t).toFixed(1)} ${top}V${height - bottom}`)
    for (const [dot, point] of [[dots[0], p], [dots[1], average]]) {
      dot.toggleAttribute("hidden", !point)
      if (point) { dot.setAttribute("cx", x(point.t)); dot.setAttribute("cy", y(point.v)) }
    }
  }
  return { mark, time: (px) => from + (px - left) / (width - left - right) * (to - from) }
}
